"""What there is to reproduce: every figure and table of the book, its notebook, and the tables it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from steerkit.errors import SteerkitError

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
BOOK = ROOT / "book"
EXECUTED = BOOK / "notebooks"


@dataclass(frozen=True)
class Exhibit:
    """A figure or table. `stages` are the kinds of tables its notebook reads (see `companion.tan.experiment`)."""

    id: str
    paper: str
    number: str
    title: str
    stages: tuple[str, ...] = ()
    published: bool = False  # can be drawn from the paper's digitised numbers alone

    @property
    def notebook(self) -> Path:
        """The source notebook, without outputs."""
        return NOTEBOOKS / f"{self.id}.ipynb"

    @property
    def executed(self) -> Path:
        """Where the book's copy goes."""
        return EXECUTED / f"{self.id}.ipynb"


TAN = "Tan et al. 2024"
MAYNE = "Mayne et al. 2024"
BEYOND = "Beyond the papers"
BOTH = ("sweep", "grid")

EXHIBITS: dict[str, Exhibit] = {
    exhibit.id: exhibit
    for exhibit in (
        Exhibit(
            "tan-fig-1", TAN, "Figure 1", "Per-sample steerability and anti-steerable examples", BOTH, True
        ),
        Exhibit("tan-fig-2", TAN, "Figure 2", "Two propensity curves", BOTH),
        Exhibit(
            "tan-fig-3", TAN, "Figure 3", "Steerability by the option that shows the behaviour", BOTH, True
        ),
        Exhibit("tan-fig-4", TAN, "Figure 4", "How much of the variance is bias", BOTH, True),
        Exhibit("tan-fig-5", TAN, "Figure 5", "Steerability in and out of distribution", (), True),
        Exhibit("tan-fig-6", TAN, "Figure 6", "Two models on the same data sets", (), True),
        Exhibit("tan-fig-7", TAN, "Figure 7", "Relative steerability and the change of the prompt"),
        Exhibit("tan-app-fig-1", TAN, "Appendix", "Figure 1 for all data sets", (), True),
        Exhibit("tan-app-fig-3", TAN, "Appendix", "Figure 3 for all data sets", (), True),
        Exhibit("tan-app-fig-4", TAN, "Appendix", "Figure 4 for all data sets", (), True),
        Exhibit("tan-app-ranges", TAN, "Appendix", "Steerability by range of the multipliers", BOTH, True),
        Exhibit("tan-app-residual", TAN, "Appendix", "Steerability and the residual of the fit", BOTH),
        Exhibit("tan-app-models", TAN, "Appendix", "Scatter matrix over any number of models", (), True),
        Exhibit(
            "tan-app-variance",
            TAN,
            "Appendix",
            "Variance: between settings, between models, against the mean",
            (),
            True,
        ),
        Exhibit(
            "tan-app-cosine",
            TAN,
            "Appendix",
            "Cosine of the vectors of two settings, and the prompt",
        ),
        Exhibit("tan-app-layers", TAN, "Appendix", "Steerability by layer", ("sweep",)),
        Exhibit("tan-tab-1", TAN, "Table 1", "The five prompt settings"),
        Exhibit("tan-tab-2", TAN, "Table 2", "Persona sentences, persona data sets"),
        Exhibit("tan-tab-3", TAN, "Table 3", "Persona sentences, AI-risk and other data sets"),
        Exhibit("tan-flaws", TAN, "Upstream code", "What the released code really does", BOTH),
        Exhibit("tan-claims", TAN, "Claims", "What the paper claims and what was found here", BOTH),
        Exhibit("mayne-fig-1", MAYNE, "Figure 1", "The norm of a steering vector"),
        Exhibit("mayne-fig-2", MAYNE, "Figure 2", "The features of a vector and of nothing"),
        Exhibit("mayne-fig-3", MAYNE, "Figure 3", "The default component"),
        Exhibit("mayne-fig-4", MAYNE, "Figure 4", "Negative parts, and what shows up instead"),
        Exhibit("mayne-fig-5", MAYNE, "Figure 5", "Steerability by layer"),
        Exhibit("mayne-tab-1", MAYNE, "Table 1", "The same features every time"),
        Exhibit("mayne-encoder", MAYNE, "Open question", "Which file, which convention"),
        Exhibit("mayne-claims", MAYNE, "Claims", "What the paper claims and what was found here"),
        Exhibit("mayne-ext-decompose", BEYOND, "Extension 2", "Which decomposition is any good"),
        Exhibit(
            "ext-formats", BEYOND, "Extension 1", "Concept or format: three formats, two models, 40 concepts"
        ),
    )
}


def exhibit(name: str) -> Exhibit:
    """The exhibit called `name`.

    Raises
    ------
    SteerkitError
        For an unknown one.
    """
    if name not in EXHIBITS:
        raise _unknown(name)
    return EXHIBITS[name]


def page_of(exhibit: Exhibit, site: Path) -> Path | None:
    """The page of a site that shows an exhibit: that of the chapter which includes it; None when there is none."""
    for chapter in sorted(BOOK.glob("*/*.md")):
        if f"generated/{exhibit.id}.md" in chapter.read_text(encoding="utf-8"):
            page = site / chapter.relative_to(BOOK).with_suffix(".html")
            return page if page.exists() else None
    return None


def _unknown(name: str) -> SteerkitError:
    from difflib import get_close_matches

    close = " or ".join(get_close_matches(name, EXHIBITS, n=2))
    return SteerkitError(
        "a figure or table that `steerkit list` names",
        repr(name),
        next_step=f"try {close}, or see `steerkit list`." if close else "see `steerkit list`.",
    )


def matching(patterns: list[str] | None) -> list[Exhibit]:
    """Exhibits whose id matches one of the shell patterns; all without patterns.

    Raises
    ------
    SteerkitError
        When a pattern matches none.
    """
    from fnmatch import fnmatch

    if not patterns:
        return list(EXHIBITS.values())
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in EXHIBITS):
            raise _unknown(pattern)
    return [e for e in EXHIBITS.values() if any(fnmatch(e.id, pattern) for pattern in patterns)]
