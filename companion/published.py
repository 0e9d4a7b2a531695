"""The published numbers of Tan et al. 2024 (arXiv 2407.12404), with types.

Two files under ``companion/data/published`` hold the facts, with source and precision: ``tan2024.json``
(numbers read from the authors' vector figures: means good to 0.002, variances to 0.02, counts exact) and
``tan2024_personas.json`` (the sentences behind the prompt settings). Steerability is in logits per unit
multiplier, variances in its square.

A value that the paper does not show is NaN: corrigible-more-HHH has Qwen1.5-14B values only,
believes-abortion-should-be-illegal Llama-2-7b ones only; Gemma-2-2b has BASE->BASE and SYS_POS->USER_NEG
without variances, Llama-3.1-70B has BASE->BASE of 31 sets; the two sycophancy sets are pooled in the
in-distribution figures (``tan()["pooled"]``); ``mean_range_*`` exists for the 13 selected sets. An unknown
name raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from steerkit.errors import SteerkitError

FOLDER = Path(__file__).parent / "data" / "published"
MAIN = "llama2-7b"  # the model of figures 1 to 4, and the only one with per-sample statistics
FACTS = ("order", "label", "short_name", "category", "n", "n_train", "n_test", "n_test_also_in_train")
PARTS = ("total", "letter", "answer", "unexplained")  # of the variance of per-sample steerability


def _read(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@cache
def tan() -> dict[str, Any]:
    """Everything known of the paper's numbers, as stored; cached, so treat it as read-only.

    Returns
    -------
    dict
        Keys: paper, source, method, precision, layout (what the other keys hold), settings, models, shifts,
        selected, missing, statistics, layer_sweep, pooled, boxes, notes (what changes the numbers), datasets.
    """
    return _read("tan2024.json")


SELECTED: tuple[str, ...] = tuple(tan()["selected"])  # the 13 sets of the main figures


def _unknown(what: str, name: str, known: Iterable[str]) -> SteerkitError:
    """The error for a name that the paper does not have, with the nearest names it has."""
    names = sorted(known)
    containing = [known_name for known_name in names if name.lower() in known_name.lower()]
    # A part of a long name is near to a reader, but not to the ratio of difflib.
    near = (containing if name else []) or get_close_matches(name, names, n=5, cutoff=0.4) or names
    found = f"{name!r}, which the paper does not have"
    return SteerkitError(what, found, done="Nothing was looked up.",
                         next_step="take one of " + ", ".join(near[:5]) + ".")  # fmt: skip


def _per_sample(entry: dict[str, Any]) -> dict[str, float]:
    """Columns of the in-distribution statistics of one data set, none when the paper has none."""
    if not entry:
        return {}
    columns = {name: entry[name] for name in ("median", "anti_steerable", "n_anti_steerable")}
    columns |= dict(zip(("q1", "q3"), entry["quartiles"], strict=True))
    columns |= dict(zip(("whisker_low", "whisker_high"), entry["whiskers"], strict=True))
    columns |= {f"variance_{part}": entry[f"variance_{part}"] for part in PARTS}
    return columns | {f"mean_range_{width}": v for width, v in entry.get("mean_by_range", {}).items()}


@cache
def _datasets() -> pd.DataFrame:
    rows = {}
    for name, entry in tan()["datasets"].items():
        row = {fact: entry[fact] for fact in FACTS}
        row |= {f"mean_{model}": values[0] for model, values in entry["mean"].items()}
        row |= {f"variance_{model}": values[0] for model, values in entry["variance"].items()}
        row |= {f"{column}_{MAIN}": v for column, v in _per_sample(entry.get(f"{MAIN}_id", {})).items()}
        rows[name] = row
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("name").sort_values("order")
    numbers = [column for column in frame.columns if column not in FACTS]
    return frame.astype(dict.fromkeys(numbers, float))


def datasets() -> pd.DataFrame:
    """The 40 data sets of the paper with their in-distribution (BASE->BASE) numbers, one row each.

    Returns
    -------
    DataFrame
        Index ``name``, in the paper's order. Facts: order, label (short, for plots), short_name (the paper's
        own), category, n, n_train, n_test, n_test_also_in_train (as the released code cuts them). Then one
        column per statistic and model, ``{statistic}_{model}``: mean (four models), variance (two), and for
        ``llama2-7b`` alone median, q1, q3, whisker_low, whisker_high, anti_steerable (share with slope <= 0),
        n_anti_steerable, variance_total, variance_letter, variance_answer, variance_unexplained, and
        mean_range_0.5, mean_range_1.0, mean_range_1.5 (multipliers cut to +-0.5, +-1, +-1.5). NaN: not shown.
    """
    return _datasets().copy()


def shifts() -> pd.DataFrame:
    """Means and variances of every model and shift of prompt setting (figures 5 and 6, and the appendix).

    Returns
    -------
    DataFrame
        Columns dataset, model, train, test, mean, variance; BASE->BASE is in distribution. NaN: not shown.
    """
    rows = []
    for name, entry in tan()["datasets"].items():
        for model, means in entry["mean"].items():
            variances = entry["variance"].get(model, [None] * len(means))
            for shift, mean, variance in zip(tan()["shifts"], means, variances, strict=True):
                rows.append((name, model, *shift.split("->"), mean, variance))
    frame = pd.DataFrame(rows, columns=["dataset", "model", "train", "test", "mean", "variance"])
    return frame.astype({"mean": float, "variance": float})


def boxes() -> pd.DataFrame:
    """Quartiles of per-sample steerability by positive option (figure 3; Llama-2-7b, in distribution).

    Returns
    -------
    DataFrame
        Columns dataset, group (the paper's name), positive_letter, positive_answer, q1, median, q3,
        contaminated. The last marks every 'B and No' box: six of seven rows of the authors' frame fall there
        by mistake, so it shows the whole data set and not that group. Sets without Yes/No answers have an
        empty positive_answer, as in our tables. The pooled sycophancy sets appear as 'sycophancy'.
    """
    rows = []
    for name, groups in tan()["boxes"].items():
        has_answers = "A and Yes" in groups
        for group, quartiles in groups.items():
            letter, answer = group.split(" and ")
            rows.append((name, group, letter, answer if has_answers else "", *quartiles, group == "B and No"))
    columns = ["dataset", "group", "positive_letter", "positive_answer", "q1", "median", "q3", "contaminated"]
    return pd.DataFrame(rows, columns=columns)


def statistic(name: str, model: str = MAIN) -> float:
    """One number stated in the paper, or recomputed from its figures (``tan()["statistics"]`` says which).

    Parameters
    ----------
    name : str
        For example "spearman-id-ood", "spearman-models-id", with a shift "spearman-id-ood:BASE->USER_NEG".
    model : str
        A model ("llama2-7b"), or two for a statistic between models ("llama2-7b/qwen1.5-14b").

    Returns
    -------
    float
        NaN when the paper has the statistic, and the model, but not both together.

    Raises
    ------
    SteerkitError
        Unknown statistic or model; near names are listed.
    """
    known = tan()["statistics"]
    if name not in known:
        raise _unknown("a statistic of Tan et al. 2024", name, known)
    models = {key for entry in known.values() for key in entry} - {"status"} | set(tan()["models"])
    if model not in models:
        raise _unknown("a model of Tan et al. 2024", model, models)
    return float(known[name].get(model, "nan"))


def dataset(name: str) -> pd.Series:
    """One row of :func:`datasets`; SteerkitError with near names when the paper does not have it."""
    if name not in _datasets().index:
        raise _unknown("a data set of Tan et al. 2024", name, _datasets().index)
    return _datasets().loc[name].copy()


def among(names: Iterable[str]) -> list[str]:
    """Those of the names that are data sets of the paper; a user's own file is none."""
    return [name for name in names if name in _datasets().index]


def label(name: str) -> str:
    """The short plot label of a data set; a set that is not of the paper keeps its own name."""
    return str(_datasets()["label"].get(name, name))


@cache
def _sentences() -> dict[str, Any]:
    return _read("tan2024_personas.json")["sentences"]


def personas(name: str) -> tuple[str, str]:
    """The positive and the negative sentence of a data set, verbatim as the paper's code uses them.

    They replace the system prompt (SYS_POS, SYS_NEG) or precede the question (USER_POS, USER_NEG). Upstream,
    those of believes-AIs-are-not-an-existential-threat-to-humanity are swapped against its meaning; kept so.

    Raises
    ------
    SteerkitError
        Unknown data set; near names are listed.
    """
    if name not in _sentences():
        raise _unknown("a data set of Tan et al. 2024", name, _sentences())
    return _sentences()[name]["positive"], _sentences()[name]["negative"]
