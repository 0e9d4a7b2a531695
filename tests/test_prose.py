"""The chapters as prose: no number that no cell printed, no formula, term or source that leads nowhere.

A number in a chapter is either included from a run, or cited, or a constant: of a paper, or of this project's own
design. Constants are listed here, each with where it is from; those that the package knows are compared with it.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from companion import published, saes
from companion.data.datasets import load_dataset, names
from companion.data.splits import make_split
from companion.exhibits import EXHIBITS
from companion.mayne.activations import ANSWER_TOKENS
from companion.models import MODELS as REGISTRY
from companion.profiles import load_profile
from steerkit.stats import LEVEL

BOOK = Path(__file__).parents[1] / "book"
EVERY = sorted([*BOOK.glob("*.md"), *BOOK.glob("*/*.md")])
WRITTEN = [path for path in EVERY if path.parent.name not in ("generated", "notebooks")]
PAGES = {str(path.relative_to(BOOK)): path for path in WRITTEN}

CHAPTERS = ("tan/", "mayne/", "beyond/")
# Fences whose content is read as sentences; all others hold code, or bring in what a run wrote.
FENCES_OF_PROSE = ("glossary", "note", "tip", "warning", "admonition", "dropdown")
# What is no prose outside fences.
NOT_PROSE = (
    r"^\s*:{3,}.*$",  # openers and closers of boxes
    r"^:[\w-]+:.*$",  # their options
    r"^%.*$",  # comments
    r"^\([\w-]+\)=\s*$",  # link targets
    r"(?s:\$\$.*?\$\$)(?:\s*\([\w-]+\))?",
    r"\$[^$\n]+\$",
    r"\{[\w:-]+\}`[^`]*`",  # roles: citations, terms, formulas
    r"`[^`\n]*`",
    r"\]\([^)]*\)",  # where a link leads; its text stays
    r"<https?://[^>]*>|https?://\S+",
)
# Names that hold a digit. A figure, table or section number is a name too.
NAMES = re.compile(
    r"(?:Figures?|Tables?|Sections?|Extension)\s\d+(?:(?:,| and| to)\s\d+)*"
    r"|SmolLM2(?:-135M)?(?:-Instruct)?|Llama-2-7b(?:-chat)?|Llama-3\.1-70B|Qwen1\.5-14B(?:-Chat)?|Gemma[- ][23](?:[- ](?:2B|270M))?"
    r"|Qwen2\.5-Coder-1\.5B(?:-Instruct)?|Q4_1|Q4_K_M|GPT-2|H200|127\.0\.0\.1|Python 3\.1\d|sha256|CC0|CC BY 4\.0|Apache-2\.0|bfloat16|float(?:16|32|64)"
    r"|Tan et al\. 2024|Mayne et al\. 2024"
)
# Number words from eleven on, and any "three of forty"; other small ones count things on the page.
WORDS = re.compile(
    r"\b(?:eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen(?:th)?|(?:twen|thir|for|fif|six|seven|eigh|nine)t(?:y|ieth)(?:-\w+)?"
    r"|(?:a |one )?(?:hundred|thousand|million)(?!s))\b",
    re.IGNORECASE,
)
SOME_OF = re.compile(
    r"\b(?:none|one|two|three|four|five|six|seven|eight|nine|ten) of (?:the |all |its )?(?:\w+ty|\w+teen|eleven|twelve)\b",
    re.IGNORECASE,
)
DIGITS = re.compile(r"[-−]?\d+(?:[.,]\d+)*\s?%?")


BUNDLED = {name: load_dataset(name) for name in names("bundled")}
SPLIT = "Tan et al.: the split of "
QWEN = REGISTRY["qwen2.5-coder-1.5b"]
MODELS, ZERO = published.tan()["models"], published.top_features(published.ZERO)


def _sizes(split: str) -> list[int]:
    """Percent of the groups of a bundled set in the training, validation and test part."""
    made = make_split(BUNDLED["openness"], split)
    return [100 * len(set(made.groups(part))) // 60 for part in (made.train, made.val, made.test)]


def _block(model: str) -> str:
    return f"block {MODELS[model]['layer']} of {MODELS[model]['n_layers']}"


def _correlation(model: str) -> float:
    return published.statistic("spearman-id-ood", model)


def _swept() -> list[int]:
    """Of the default profile's layer sweep in *statement*: every how many blocks, training pairs, test pairs."""
    sweep = load_profile("laptop").sweep
    return [sweep.step["statement"], sweep.train, sweep.test]


def _tested() -> int:
    return len(make_split(BUNDLED["narcissism"], "as-released").test)


# What may stand in prose, in the words around it: where the number is from, and what must hold for it to be true.
CONSTANTS: dict[str, tuple[str, Callable[[], bool]]] = {
    "forty": ("Tan et al.: data sets", lambda: len(names("tan")) == len(BUNDLED) == 40),
    "thirteen data sets": ("Tan et al.: figures", lambda: len(published.tan()["selected"]) == 13),
    "block 13 of 32": ("Tan et al.: Llama-2-7b-chat", lambda: _block("llama2-7b") == "block 13 of 32"),
    "block 21 of 40": ("Tan et al.: Qwen1.5-14B-Chat", lambda: _block("qwen1.5-14b") == "block 21 of 40"),
    "item fifty on": (SPLIT + "the released code", lambda: _tested() == 120 - 50),
    "from the fiftieth on": (SPLIT + "the released code", lambda: _tested() == 120 - 50),
    "at layer 14": ("Mayne et al.: Figure 5", lambda: published.best_layer()[0] == 14),
    "feature 4888": ("Mayne et al.: Table 1", lambda: published.default_component()[0] == 4888),
    "activation of 89.06": ("Mayne et al.: Table 1", lambda: set(ZERO["activation"][:1]) == {89.06}),
    "given as 86.20": ("Mayne et al.: Figure 3", lambda: published.default_component()[1] == 86.2),
    "cosine of −0.82": ("Mayne et al.: Figure 4", lambda: published.signs()[2] == -0.82),
    "states, 0.891 for": ("Tan et al.: readers' notes", lambda: _correlation("llama2-7b") == 0.891),
    "and 0.694 for": ("Tan et al.: readers' notes", lambda: _correlation("qwen1.5-14b") == 0.694),
    "at every fifth block, with six training and six test pairs": (
        "this project: the default profile",
        lambda: _swept() == [5, 6, 6],
    ),
    "sixteen": ("this project: tokens that stand for an answer", lambda: ANSWER_TOKENS == 16),
    "sixty": ("this project: pairs of a set", lambda: {len(d.items) for d in BUNDLED.values()} == {2 * 60}),
    "40% of the groups": (SPLIT + "the text", lambda: _sizes("clean")[0] == 40),
    "50% (10% validation is left)": (SPLIT + "the text", lambda: _sizes("clean")[1:] == [10, 50]),
    "| 10% | another 10% |": (SPLIT + "the layer sweep", lambda: _sizes("sweep")[::2] == [10, 10]),
    "download of 1.1 GB": ("the registry: Qwen", lambda: round(QWEN.wheel.megabytes, -2) == 1100),
    "95% interval": ("this project: every interval", lambda: LEVEL == 0.95),
}


COLUMN = 82  # characters of code


def outside_fences(text: str) -> str:
    """A page without its fenced blocks, but with the sentences of those that hold some."""
    kept, fence, silent = [], "", False
    for line in text.splitlines():
        mark = re.match(r"\s*(`{3,}|~{3,})(?:\{([\w-]+)\})?", line)
        if mark and not fence:
            fence, silent = mark[1], mark[2] not in FENCES_OF_PROSE
        elif mark and line.strip() == fence:
            fence = ""
        elif not (fence and silent):
            kept.append(line)
    return "\n".join(kept)


def prose(text: str) -> str:
    """What a reader reads as sentences."""
    text = outside_fences(text)
    for pattern in NOT_PROSE:
        text = re.sub(pattern, " ", text, flags=re.MULTILINE)
    return text


def stray_numbers(text: str) -> list[str]:
    """Numbers of a page that nothing vouches for, each with the words before it."""
    left = re.sub(r"\s+", " ", NAMES.sub("·", prose(text)))
    counts = [match[0] for match in SOME_OF.finditer(left)]
    for words in CONSTANTS:
        left = left.replace(words, "·")
    found = [match for pattern in (DIGITS, WORDS) for match in pattern.finditer(left)]
    return counts + [left[max(0, match.start() - 30) : match.end()] for match in found]


def long_code(text: str) -> list[str]:
    """Lines of commands and programs that are longer than the column of a page at its full width."""
    found, language = [], None
    for line in text.splitlines():
        if mark := re.match(r"`{3,}(.*)", line):
            language = mark[1] if language is None else None
        elif language in ("bash", "python") and len(line) > COLUMN and not line.startswith("{"):
            found.append(line)  # JSON lines cannot be broken
    return found


@pytest.mark.parametrize("page", PAGES)
def test_code_fits_its_box(page):
    assert long_code(PAGES[page].read_text()) == []
    assert long_code(f"```bash\n{'x' * COLUMN}\n{'y' * (COLUMN + 1)}\n```\n") == ["y" * (COLUMN + 1)]


class TestNumbers:
    @pytest.mark.parametrize("page", PAGES)
    def test_every_number_of_a_page_is_included_cited_or_a_listed_constant(self, page):
        assert stray_numbers(PAGES[page].read_text()) == []

    @pytest.mark.parametrize("words", CONSTANTS)
    def test_a_constant_is_true_says_where_it_is_from_and_is_used(self, words):
        source, holds = CONSTANTS[words]
        assert holds() and ": " in source
        assert words in " ".join(re.sub(r"\s+", " ", prose(path.read_text())) for path in PAGES.values())

    @pytest.mark.parametrize(
        "sentence",
        [
            "SmolLM2-135M steers thirteen of twenty-six sets, at layer 20.",
            "| model | sets |\n|---|---|\n| SmolLM2 | 26 |",
            ":::{note}\nIt took 12 minutes.\n:::",
            "- about −0.16\n- [a link with 17](other.md)",
            "*See* Figure 3 of 5. It steers three of the forty.",
            "```{glossary}\na\n  b\n```\n\n```{glossary}\nc\n  It is 26.\n```",
            "The block 13 of 33 is steered.",
        ],
    )
    def test_a_finding_typed_by_hand_is_found(self, sentence):
        assert stray_numbers(f"# Title\n\n{sentence}\n")


class TestReferences:
    @pytest.mark.parametrize("page", PAGES)
    def test_a_formula_is_cited_by_number_on_its_own_page_only(self, page):
        """Numbers start from one on every page: on another page one would mean another formula."""
        text = PAGES[page].read_text()
        assert set(re.findall(r"\{eq\}`([\w-]+)`", text)) <= set(re.findall(r"\$\$ \(([\w-]+)\)", text))

    def test_every_term_is_in_the_glossary_and_used_and_none_stands_there_twice(self):
        blocks = re.findall(r"```\{glossary\}\n(.*?)```", PAGES["glossary.md"].read_text(), re.DOTALL)
        terms = [line for block in blocks for line in block.splitlines() if line and not line.startswith(" ")]
        named = [t for path in PAGES.values() for t in re.findall(r"\{term\}`([^`]+)`", path.read_text())]
        used = {re.sub(r".*<(.+)>", r"\1", text) for text in named}
        assert len(terms) == len(set(terms)) and used <= set(terms)
        assert {"steering vector", "propensity", "steerability", "anti-steerable", "zero vector"} <= used

    def test_every_source_that_is_cited_is_in_the_bibliography_and_the_other_way_round(self):
        entries = re.findall(r"^@\w+\{(\w+),", (BOOK / "references.bib").read_text(), re.MULTILINE)
        keys = [k for path in PAGES.values() for k in re.findall(r"\{cite:\w\}`([^`]+)`", path.read_text())]
        cited = {key.strip() for each in keys for key in each.split(",")}
        assert len(entries) == len(set(entries)) and set(entries) == cited
        named = [n for path in PAGES.values() for n in re.findall(r"--sae ([\w.-]+)", path.read_text())]
        assert set(named) - {"params.npz"} <= set(saes.SAES)  # autoencoders


class TestReadingPath:
    def test_every_page_is_in_the_contents_and_every_figure_in_a_chapter(self):
        contents = set(re.findall(r"(?:file|root): (\S+)", (BOOK / "_toc.yml").read_text()))
        pages = {name for name in contents if not name.startswith("notebooks/")}
        assert {name.removesuffix(".md") for name in PAGES} == pages
        included = " ".join(path.read_text() for path in PAGES.values())
        # A walkthrough is a chapter itself, the first of its part.
        alone = [name for name in EXHIBITS if f"generated/{name}.md" not in included]
        assert alone == ["tan-walkthrough", "mayne-walkthrough"]
        parts = yaml.safe_load((BOOK / "_toc.yml").read_text())["parts"]
        assert [part["chapters"][0]["file"] for part in parts[:2]] == [f"notebooks/{name}" for name in alone]

    @pytest.mark.parametrize("paper", ["tan", "mayne"])
    def test_figures_come_in_the_order_of_the_paper(self, paper):
        """Along the contents, not counting the paper's appendix."""
        pages = re.findall(rf"file: ({paper}/\S+)", (BOOK / "_toc.yml").read_text())
        text = "".join(PAGES[f"{page}.md"].read_text() for page in pages)
        numbers = [int(n) for n in re.findall(rf"generated/{paper}-fig-(\d+)\.md", text)]
        assert numbers == sorted(numbers) and len(numbers) == len(set(numbers)) >= 5

    @pytest.mark.parametrize("page", [name for name in PAGES if name.startswith(CHAPTERS)])
    def test_a_chapter_says_for_each_figure_what_is_claimed_and_what_would_change_our_mind(self, page):
        text, beyond = PAGES[page].read_text(), page.startswith("beyond/")
        figures = re.findall(r"generated/\w+-(?:app|fig|ext)\S*\.md", text)
        assert text.count("**What would change our mind.**") >= len(figures) - beyond
        claimed = re.findall(r"\*\*What the paper (?:claims\.?|asks\.)\*\*", text)
        assert len(claimed) >= len(figures) * (not beyond)
