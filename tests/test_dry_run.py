"""The papers' own profiles from the layer sweep to the claims, with everything theirs but the size of the model.

Vocabulary, chat template, architecture, spelling, split, score and precision are those of the profile; width and weights are
tiny and random, and of every stage there are a few items. What breaks here would have broken after hours on a GPU.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
import transformers
import yaml
from conftest import STAGES

from companion import models, outline, profiles, reproduce
from companion.exhibits import NOTEBOOKS, parameters_of
from companion.tan import experiment, jobs

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 2, "head_dim": 8}
LAYER = 1
FORMATS = ("letter",)  # the papers'
SETS = ["narcissism", "anti-LGBTQ-rights", "corrigible-neutral-HHH"]
SOURCE = "papers" if os.environ.get("STEERKIT_DATA") else "bundled"
# Pages on the data and on a model's answers, which are about no profile.
ELSEWHERE = {"tan-words", "tan-texts", "tan-walkthrough"}
PAGES = sorted(path for path in NOTEBOOKS.glob("tan-*.ipynb") if path.stem not in ELSEWHERE)
MODELS = ("llama2-7b", "qwen1.5-14b", "gemma-2-2b", "llama3.1-70b")
# These set a model beside those of the paper; all others are alike for all, and drawn for the first.
BESIDE = {"tan-fig-5", "tan-fig-6", "tan-fig-7", "tan-app-models", "tan-claims"}


def tiny_folder(name: str, place: Path, folder: Path) -> None:
    """A checkpoint of the model's class with its real vocabulary, in the precision of its profile."""
    spec = models.MODELS[name]
    config = outline.config_of(name, **SHAPE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = transformers.AutoModelForCausalLM.from_config(config)
        for weight in module.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.15)
    module.to(getattr(torch, spec.dtype)).save_pretrained(folder)
    for file in place.glob("*.json"):
        (folder / file.name).symlink_to(file)


def few(name: str, folder: Path) -> None:
    """The profile under its own name, with few items."""
    about = yaml.safe_load((profiles.folder() / f"{name}.yaml").read_text())
    sizes = {"train": 4, "test": 4}
    multipliers = [-1.5, 0.0, 1.5]
    about |= {"source": SOURCE, "datasets": SETS, "balanced": True, **sizes, "multipliers": multipliers}
    about["shift"] |= {**sizes, "multipliers": multipliers}
    about["sweep"] |= {**sizes, "datasets": SETS[:2], "multipliers": [-1.5, 1.5]}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(about))


@pytest.fixture(scope="module", params=MODELS)
def run(request, tmp_path_factory):
    """Settings of a profile whose model is a tiny one in its place, and all its tables."""
    name, place = request.param, outline.vocabulary(request.param)
    if place is None:
        pytest.skip(f"the tokenizer of {name} is not here: sh tools/tokenizers.sh fetches it")
    root = tmp_path_factory.mktemp(name)
    for part in ("model", "profiles", "artifacts", "out"):
        (root / part).mkdir()
    caches = (models._model_at, models._weights_at, outline.outline)
    with pytest.MonkeyPatch.context() as patch:
        shutil.copytree(profiles.folder(), root / "profiles", dirs_exist_ok=True)
        few(name, root / "profiles")
        tiny_folder(name, place, root / "model")
        own = replace(models.MODELS[name], folder=str(root / "model"), remote_only=False, layer=LAYER)
        patch.setitem(models.MODELS, name, own)
        for variable, part in (("PROFILES", "profiles"), ("ARTIFACTS", "artifacts"), ("OUT", "out")):
            patch.setenv(f"STEERKIT_{variable}", str(root / part))
        for cache in caches:
            cache.cache_clear()
        settings = profiles.load_profile(name)
        reproduce.compute_tables(settings, FORMATS, STAGES, lambda _: lambda _: None)
        yield SimpleNamespace(settings=settings, out=root / "out")
    for cache in caches:
        cache.cache_clear()


def test_every_table_is_there_in_the_papers_protocol(run):
    settings = run.settings
    assert (settings.spelling, settings.split, settings.fidelity) == ("as-released", "as-released", "paper")
    for form in FORMATS:
        for stage in STAGES:
            assert experiment.pending(settings, form, stage) == []
    shift = experiment.shift(settings, "letter")
    assert set(shift["setting"]) == set(jobs.SETTINGS) and len(set(shift["vector"])) == 6
    table = experiment.grid(settings, "letter")
    assert {about["engine"] for about in table.attrs["manifests"]} == {"tree"}
    assert table["propensity"].notna().all() and set(table["layer"]) == {LAYER}


def draw(page: Path, profile: str) -> None:
    """The cells of the notebook, one after the other, as its kernel would run them."""
    values, names = {"profile": profile, "answer_format": "letter"}, {}
    for cell in json.loads(page.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), page.name, "exec"), names)
        if "parameters" in cell["metadata"].get("tags", []):
            names |= {name: value for name, value in values.items() if name in parameters_of(page)}


def test_every_page_of_the_paper_is_drawn_from_it(run):
    name = run.settings.profile
    pages = [page for page in PAGES if name == MODELS[0] or page.stem in BESIDE]
    for page in pages:
        draw(page, name)
        plt.close("all")
        assert list(run.out.glob(f"{page.stem}-*.json")), page.stem
    assert len(pages) > 20 or {page.stem for page in pages} == BESIDE
