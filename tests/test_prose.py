"""The chapters as prose: no number that no cell printed, no formula, term or source that leads nowhere.

A number in a chapter is either included from a run, or cited, or a constant: of a paper, or of this project's own
design. Constants are listed here, each with where it is from; those that the package knows are compared with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from companion import published, published_mayne, saes
from companion.data.datasets import load_dataset, names
from companion.data.splits import make_split
from companion.exhibits import EXHIBITS

BOOK = Path(__file__).parents[1] / "book"
PAGES = {
    str(path.relative_to(BOOK)): path
    for path in sorted([*BOOK.glob("*.md"), *BOOK.glob("*/*.md")])
    if path.parent.name not in ("generated", "notebooks")
}

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
    r"|SmolLM2(?:-135M)?(?:-Instruct)?|Llama-2-7B(?:-chat)?|Llama-3\.1-70B|Qwen1\.5-14B(?:-Chat)?|Gemma[- ][23](?:[- ](?:2B|270M))?"
    r"|GPT-2|H200|127\.0\.0\.1|Python 3\.1\d|sha256|CC0|CC BY 4\.0|Apache-2\.0|bfloat16|float(?:16|32|64)"
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


@dataclass(frozen=True)
class Constant:
    """A number that may stand in prose: the words around it, where it is from, and what must hold for it to be true."""

    words: str
    source: str
    holds: Callable[[], bool]


def _layers(model: str) -> tuple[int, int]:
    about = published.tan()["models"][model]
    return about["layer"], about["n_layers"]


def _parts(split: str) -> list[int]:
    """Percent of the groups of a bundled set in the training, validation and test part."""
    data = load_dataset("openness")
    made = make_split(data, split)
    sizes = [len(set(made.groups(part))) for part in (made.train, made.val, made.test)]
    return [100 * size // 60 for size in sizes]


def _released_start() -> bool:
    return len(make_split(load_dataset("narcissism"), "as-released").test) == 120 - 50


def _zero() -> float:
    return float(published_mayne.top_features(published_mayne.ZERO)["activation"].iloc[0])


CONSTANTS = (
    Constant("forty", "Tan et al.: data sets", lambda: len(names("tan")) == len(names("bundled")) == 40),
    Constant(
        "thirteen data sets", "Tan et al.: main figures", lambda: len(published.tan()["selected"]) == 13
    ),
    Constant("block 13 of 32", "Tan et al.: Llama-2-7B-chat", lambda: _layers("llama2-7b") == (13, 32)),
    Constant("block 21 of 40", "Tan et al.: Qwen1.5-14B-Chat", lambda: _layers("qwen1.5-14b") == (21, 40)),
    Constant("item fifty on", "Tan et al.: the released split", _released_start),
    Constant("from the fiftieth on", "Tan et al.: the released split", _released_start),
    Constant("at layer 14", "Mayne et al.: Figure 5", lambda: published_mayne.best_layer()[0] == 14),
    Constant("feature 4888", "Mayne et al.: Table 1", lambda: published_mayne.default_component()[0] == 4888),
    Constant("activation of 89.06", "Mayne et al.: Table 1", lambda: _zero() == 89.06),
    Constant("given as 86.20", "Mayne et al.: Figure 3", lambda: published_mayne.default_component()[1] == 86.2),
    Constant("sixty", "this project: pairs of a bundled set", lambda: all(len(load_dataset(n).items) == 120 for n in names("bundled"))),
    Constant("40% of the groups", "Tan et al.: the split of the text", lambda: _parts("clean")[0] == 40),
    Constant("50% (10% validation is left)", "Tan et al.: the split of the text", lambda: _parts("clean")[1:] == [10, 50]),
    Constant("| 10% | another 10% |", "Tan et al.: the split of the layer sweep", lambda: _parts("sweep")[::2] == [10, 10]),
    Constant("95% interval", "this project: the level of every interval", lambda: _level() == 0.95),
)  # fmt: skip


def _level() -> float:
    import inspect

    from steerkit.stats import bootstrap

    return inspect.signature(bootstrap).parameters["level"].default


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
    for constant in CONSTANTS:
        left = left.replace(constant.words, "·")
    found = [match for pattern in (DIGITS, WORDS) for match in pattern.finditer(left)]
    return counts + [left[max(0, match.start() - 30) : match.end()] for match in found]


class TestNumbers:
    @pytest.mark.parametrize("page", PAGES)
    def test_every_number_of_a_page_is_included_cited_or_a_listed_constant(self, page):
        assert stray_numbers(PAGES[page].read_text()) == []

    @pytest.mark.parametrize("constant", CONSTANTS, ids=lambda constant: constant.words)
    def test_a_constant_is_true_says_where_it_is_from_and_is_used(self, constant):
        assert constant.holds() and ": " in constant.source
        pages = " ".join(re.sub(r"\s+", " ", prose(path.read_text())) for path in PAGES.values())
        assert constant.words in pages

    @pytest.mark.parametrize(
        "sentence",
        [
            "SmolLM2 steers 26 of 40 data sets.",
            "The median is 0.314, and 42% of the examples are anti-steerable.",
            "SmolLM2-135M steers thirteen of twenty-six sets.",
            "*See* Figure 3 of 5.",
            "At layer 20 the vector works.",
            "| model | sets |\n|---|---|\n| SmolLM2 | 26 |",
            ":::{note}\nIt took 12 minutes.\n:::",
            "- about −0.16\n- [a link with 17](other.md)",
            "Two of a hundred runs failed.",
            "It steers three of the forty.",
            "```{glossary}\na\n  b\n```\n\n```{glossary}\nc\n  It is 26.\n```",
            "The block 13 of 33 is steered.",
        ],
    )
    def test_a_finding_typed_by_hand_is_found(self, sentence):
        assert stray_numbers(f"# Title\n\n{sentence}\n")

    @pytest.mark.parametrize(
        "text",
        [
            "As {cite:t}`tan2024` show in Figures 5 to 7 and Table 1, two models agree.",
            "with $\\lambda = 1.5$ and\n\n$$\nm = 0.25\n$$ (eq-1)\n\nas in [Figure 2](x.md#figure-2).",
            "```bash\nsteerkit run tan-fig-1 -p layer=20\n```\nand `layer=20`.",
            "```{include} ../generated/tan-fig-1.md\n```",
            "Llama-2-7B-chat, Gemma 3 270M, SmolLM2-135M-Instruct, Python 3.11 or newer, CC BY 4.0.",
            "::::{grid} 1 2 2 2\n:gutter: 3\n\nText.\n::::\n\n% test: 12\n(eq-12)=\n",
        ],
    )
    def test_what_is_no_finding_is_left_alone(self, text):
        assert stray_numbers(text) == []


class TestReferences:
    @pytest.mark.parametrize("page", PAGES)
    def test_a_formula_is_cited_by_number_on_its_own_page_only(self, page):
        """Numbers start from one on every page: on another page one would mean another formula."""
        text = PAGES[page].read_text()
        assert set(re.findall(r"\{eq\}`([\w-]+)`", text)) <= set(re.findall(r"\$\$ \(([\w-]+)\)", text))

    def test_every_term_is_in_the_glossary_and_used_and_none_stands_there_twice(self):
        blocks = re.findall(r"```\{glossary\}\n(.*?)```", PAGES["glossary.md"].read_text(), re.DOTALL)
        terms = [line for block in blocks for line in block.splitlines() if line and not line.startswith(" ")]
        used = set()
        for path in PAGES.values():
            for text in re.findall(r"\{term\}`([^`]+)`", path.read_text()):
                used.add(re.sub(r".*<(.+)>", r"\1", text))
        assert len(terms) == len(set(terms)) and used <= set(terms)
        assert {"steering vector", "propensity", "steerability", "anti-steerable", "zero vector"} <= used

    def test_every_source_that_is_cited_is_in_the_bibliography_and_the_other_way_round(self):
        entries = re.findall(r"^@\w+\{(\w+),", (BOOK / "references.bib").read_text(), re.MULTILINE)
        cited = {
            key.strip()
            for path in PAGES.values()
            for keys in re.findall(r"\{cite:\w\}`([^`]+)`", path.read_text())
            for key in keys.split(",")
        }
        assert len(entries) == len(set(entries)) and set(entries) == cited


class TestReadingPath:
    def test_every_page_is_in_the_contents_and_every_figure_in_a_chapter(self):
        contents = set(re.findall(r"(?:file|root): (\S+)", (BOOK / "_toc.yml").read_text()))
        assert {name.removesuffix(".md") for name in PAGES} == {
            n for n in contents if not n.startswith("notebooks/")
        }
        included = " ".join(path.read_text() for path in PAGES.values())
        assert [name for name in EXHIBITS if f"generated/{name}.md" not in included] == []

    @pytest.mark.parametrize("paper", ["tan", "mayne"])
    def test_figures_come_in_the_order_of_the_paper(self, paper):
        """Along the contents, not counting the paper's appendix."""
        pages = re.findall(rf"file: ({paper}/\S+)", (BOOK / "_toc.yml").read_text())
        text = "".join(PAGES[f"{page}.md"].read_text() for page in pages)
        numbers = [int(n) for n in re.findall(rf"generated/{paper}-fig-(\d+)\.md", text)]
        assert numbers == sorted(numbers) and len(numbers) == len(set(numbers)) >= 5

    @pytest.mark.parametrize(
        "page", [name for name in PAGES if name.startswith(("tan/", "mayne/", "beyond/"))]
    )
    def test_a_chapter_says_for_each_figure_what_is_claimed_and_what_would_change_our_mind(self, page):
        text = PAGES[page].read_text()
        figures = re.findall(r"generated/\w+-(?:app|fig|ext)\S*\.md", text)
        assert text.count("**What would change our mind.**") >= len(figures) - page.startswith("beyond/")
        claimed = text.count("**What the paper claims**") + text.count("**What the paper claims.**")
        assert claimed + text.count("**What the paper asks.**") >= len(figures) * (
            not page.startswith("beyond/")
        )


def test_the_autoencoders_that_a_page_names_exist():
    text = " ".join(path.read_text() for path in PAGES.values())
    named = set(re.findall(r"--sae ([\w.-]+)", text)) - {"params.npz"}
    assert named <= set(saes.SAES)
