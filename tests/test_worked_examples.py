"""The book's worked examples, run as they stand on the page: fenced blocks after a line `% test: name`.

Your model is a tiny random one with a transformers checkpoint at the place that the pages use; `steerkit` runs in this
process, everything else in a shell.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import command_line
from typer.main import get_command

from companion import cli, tiny
from companion.data.datasets import load_dataset
from companion.exhibits import exhibit, parse_assignments, resolve
from companion.places import ROOT
from companion.profiles import load_profile
from steerkit import load_vectors, prompts
from steerkit.prompts import letter_body

PLACES = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md")), *sorted((ROOT / "book").glob("*/*.md"))]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in PLACES if "generated" not in path.parts}
BLOCK = re.compile(r"^% test: (\S+)\n```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
MODEL = "your-org/your-model"


def blocks(name: str) -> list[tuple[str, str]]:
    """(language, content) of the blocks with this name, in the order of the page."""
    labelled = [block for page in PAGES.values() for block in BLOCK.findall(page)]
    found = [(language, text) for label, language, text in labelled if label == name]
    assert found, f"no block named {name}"
    return found


def statements(block: str) -> list[str]:
    """A shell block as single statements: continued lines joined, a here-document in one piece."""
    here_document = r".*<<'(\w+)'.*\n(?:.*\n)*?\1\n"
    found = re.finditer(rf"{here_document}|.+\n", block.replace("\\\n", " "))
    return [match[0] for match in found if not match[0].startswith("#")]


def words_of(statement: str) -> list[str]:
    """The arguments of a `steerkit` statement, empty for any other."""
    words = shlex.split(statement, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    return words[1:] if words and words[0].removeprefix(".venv/bin/") == "steerkit" else []


def run_shell(block: str) -> str:
    """Run a block; returns what `steerkit` printed."""
    said = ""
    for statement in statements(block):
        if words_of(statement):
            code, output = command_line(*words_of(statement))
            assert code == 0, (statement, output)
            said += output
        else:
            subprocess.run(["bash", "-euc", statement], check=True)
    return said


def run_script(name: str, text: str, there: dict) -> None:
    Path(name).write_text(text)  # nnsight reads the source of a trace from its file
    exec(compile(text, name, "exec"), there)


def run_page(name: str) -> tuple[str, dict]:
    """Run all blocks of a name, with `MODEL` where the page means the default one; (output, names defined)."""
    said, there = "", {}
    for number, (language, text) in enumerate(blocks(name)):
        if "default_sae" not in text:  # which is of that model
            text = text.replace("smollm2-135m", MODEL)
        if language == "python":
            run_script(f"{name}-{number}.py", text, there)
        else:
            said += run_shell(text)
    return said, there


def readme_example() -> str:
    """The library in one block."""
    [block] = re.findall(r"^```python\n(.*?)^```", PAGES["README.md"], re.MULTILINE | re.DOTALL)
    return block


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A folder that transformers wrote: 24 small random blocks, no chat template."""
    rows = [item for name in ("openness", "narcissism") for item in load_dataset(name).items]
    words = [f"{item.question} {item.statement}{item.matching}" for item in rows]
    words += ["(A) (B) Answer:", *(text for _, text in blocks("own-data")), readme_example()]
    tokenizer, folder = tiny.tiny_tokenizer(words), tmp_path_factory.mktemp("home") / MODEL
    with pytest.MonkeyPatch.context() as patch:
        kind, settings = tiny.ARCHITECTURES["llama"]
        patch.setitem(tiny.ARCHITECTURES, "llama", (kind, settings | {"num_hidden_layers": 24}))
        tiny.tiny_lm("llama", tokenizer)._module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def home(checkpoint, own_folders, monkeypatch) -> Path:
    """The folder a user works in, with the model where the pages have it."""
    folder = own_folders / "home"
    (folder / MODEL).parent.mkdir(parents=True)
    (folder / MODEL).symlink_to(checkpoint)
    monkeypatch.chdir(folder)
    return folder


class TestYourOwn:
    def test_model_from_ledger_to_slopes(self, home, capsys):
        said, there = run_page("own-model")
        assert "statement" not in said.splitlines()[0] and "matching" in said  # the ledger's table
        vectors, grid = load_vectors(home / "vectors.safetensors"), pd.read_parquet("grid.parquet")
        assert vectors.layers == (10, 13) and vectors.manifest["inputs"]["model"] == "your-model"
        assert sorted(grid["multiplier"].unique()) == [-1.5, -1, -0.5, 0, 0.5, 1, 1.5]
        assert list(there["by_layer"].groups) == [10, 13] and "anti_steerable" in capsys.readouterr().out

    def test_model_in_a_notebook(self, home, monkeypatch):
        """With so few items that it takes seconds."""
        shutil.copytree(ROOT / "profiles", home / "profiles")
        shutil.copy(ROOT / "profiles/smoke.yaml", home / "profiles/laptop.yaml")
        monkeypatch.setenv("STEERKIT_PROFILES", str(home / "profiles"))
        said, _ = run_page("own-model-figure")
        found = pd.read_csv("out/tan-fig-2/tan-fig-2-statement.csv")
        assert "tan-fig-2-statement.png" in said and set(found["dataset"]) <= {"openness", "narcissism"}

    def test_data_written_on_the_page(self, home):
        run_page("own-data")
        data, slopes = load_dataset(home / "early.jsonl"), pd.read_parquet("early-slopes.parquet")
        assert len(data.items) == 12 and {item.pair for item in data.items} == set(range(6))
        assert load_vectors(home / "early.safetensors").manifest["inputs"]["data_sha256"] == data.sha256
        assert set(slopes["layer"]) == {15, 20} and len(slopes) == 2 * 3  # half of the pairs are for testing
        assert np.isfinite(slopes["steerability"]).all() and slopes["steerability"].abs().min() > 0

    def test_data_in_python_and_a_trace_of_one_s_own(self, home, capsys):
        run_page("own-data")
        _, there = run_page("own-python")
        by_command = pd.read_parquet("early-slopes.parquet").query("layer == 15")
        np.testing.assert_allclose(there["slopes"]["steerability"], by_command["steerability"], rtol=1e-4)
        assert there["logits"].shape == (there["model"].lm._module.config.vocab_size,)
        with torch.no_grad():
            alone = there["model"].lm._module(there["prompt"]).logits[0, -1]
        assert (there["logits"] - alone).abs().max() > 1e-6 and "steerability" in capsys.readouterr().out

    def test_autoencoder_in_the_layout_of_gemma_scope(self, home):
        said, there = run_page("own-sae")
        pursued, encoded = pd.read_csv("pursued.csv"), pd.read_csv("encoded.csv")
        vector = load_vectors(home / "vectors.safetensors").at(10)[0].double().numpy()
        rows = np.load("params.npz")["W_dec"].astype(np.float64)[pursued["feature"]]
        fitted = np.linalg.lstsq(rows.T, vector, rcond=None)[0]
        np.testing.assert_allclose(pursued["coefficient"], fitted, rtol=1e-5)
        assert len(pursued) == 8 and (pursued["coefficient"] < 0).any() and (encoded["coefficient"] > 0).all()
        assert said.count("explain") == 2 and there["f"] == 8 * vector.size


def test_exercises(home, capsys, monkeypatch):
    """Each solution says what the page says of it, as far as a random model can, which knows few of their words."""
    monkeypatch.setattr(prompts, "KEPT", 0.0)
    _, there = run_page("exercises")
    said = capsys.readouterr().out.splitlines()
    line = [float(row.split()[1]) for row in said[1:8]]  # labels exchanged, four at a time
    assert float(said[0]) == line[0] == pytest.approx(-line[-1])
    assert sum("of 99 placebos" in row for row in said) == 4 and there["slopes"].shape == (2, 24)
    run_page("exercise-sae")
    shared = [float(row.split()[-1]) for row in capsys.readouterr().out.splitlines()]
    assert shared == sorted(shared, reverse=True) and shared[0] == 1 and shared[-1] < 0.1


def test_results_travel_and_are_not_computed_again(home, monkeypatch):
    tables, times = [], []
    for name in ("elsewhere-pack", "elsewhere-unpack"):
        monkeypatch.setenv("STEERKIT_ARTIFACTS", str(home / name))
        run_page(name)
        tables.append(Path("out/tan-app-layers/tan-app-layers-statement.csv").read_bytes())
        kept = [path for path in (home / name).iterdir() if path.suffix != ".lock"]
        times.append({path.name: path.stat().st_mtime_ns for path in kept})
    assert set(times[0]) == set(times[1]) != set() and tables[0] == tables[1]
    written = Path("out/tan-app-layers/tan-app-layers.ipynb").stat().st_mtime_ns
    assert max(times[1].values()) < written  # all of it was unpacked, none of it by the second run


def test_the_item_shown_for_the_first_paper_is_one_of_the_bundled_data():
    [(_, shown)] = blocks("item")
    item = load_dataset("openness").items[0]
    assert letter_body(item, "A") == shown.rstrip("\n") and item.positive_answer == "Yes"


def test_one_notebook_with_another_parameter_and_the_readme_s_path_for_model_and_data_of_one_s_own(home):
    said, _ = run_page("rerun")
    assert "tan-fig-1" in said and "narcissis" in Path("narcissism-table/tan-tab-1-settings.csv").read_text()
    [block] = [text for text in SHELL.findall(PAGES["README.md"]) if MODEL in text]
    Path("mine.jsonl").write_bytes((ROOT / "companion/data/bundled/openness.jsonl").read_bytes())
    run_shell(block)
    assert set(pd.read_parquet("grid-slopes.parquet")["layer"]) == {10, 13}


def test_the_readme_s_example_of_the_library(home, capsys):
    """With a small model in the place of the one on the hub, and random weights as the autoencoder."""
    draw, (d, f) = np.random.default_rng(0).normal, (32, 48)
    shapes = {"W_enc": (d, f), "b_enc": f, "W_dec": (f, d), "b_dec": d}
    weights = {name: draw(size=shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez("params.npz", **weights, threshold=np.zeros(f, np.float32))
    there: dict = {}
    run_script("readme.py", readme_example().replace("Qwen/Qwen2.5-1.5B-Instruct", MODEL), there)
    assert load_vectors("early.safetensors").layers == (10, 14)
    slopes, model = there["slopes"], there["model"]
    assert slopes.groupby("layer").size().to_dict() == {10: 2, 14: 2}
    assert slopes["steerability"].abs().min() > 0
    matching = [model.tokenizer.decode(example.matching).strip() for example in there["train"]]
    assert matching == [answer for _, answer, _ in there["pairs"][:2]]
    with torch.no_grad():
        prompt = model.tokenizer("A trace of your own", return_tensors="pt").input_ids
        alone = model.lm._module(prompt).logits[0, -1]
    assert (there["logits"] - alone).abs().max() > 1e-6
    said = capsys.readouterr().out
    assert all(word in said for word in ("steered", "Interval(estimate=", "activation", "coefficient"))
    assert [line.split()[0] for line in said.splitlines() if re.match(r"-?2(\.0)? |0(\.0)? ", line)][-3:]


BLOCKS = [(page, block) for page, text in PAGES.items() for block in SHELL.findall(text)]
STEERKIT = [(page, one) for page, block in BLOCKS for one in statements(block) if words_of(one)]


def understand(words: list[str]) -> None:
    """Its options exist and have values of their types; nothing is run."""
    command = get_command(cli.app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    with command.make_context(command.name, list(words)) as context:
        given = context.params
    if given.get("profile"):
        load_profile(given["profile"])
    if command.name == "run":
        values = resolve(exhibit(given["exhibit"]).notebook, parse_assignments(given["parameter"] or []))
        load_profile(values["profile"])


@pytest.mark.parametrize(("page", "statement"), STEERKIT)
def test_every_command_on_a_page_is_understood(page, statement):
    understand(words_of(statement))


def test_a_command_with_a_misspelt_option_would_be_noticed():
    with pytest.raises(Exception, match="No such option"):
        understand(["sweep", "--modell", "x"])
    with pytest.raises(Exception, match="check the spelling"):
        understand(["run", "tan-fig-1", "-p", "layers=3"])
