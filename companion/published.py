"""The published numbers of both papers; files under ``companion/data/published`` hold them with source and precision.

Tan et al. 2024 (arXiv 2407.12404), read from the authors' vector figures: means good to 0.002, variances to 0.02, counts
exact. Steerability is in logits per unit multiplier, variances in its square; what the paper does not show is NaN. The
two sycophancy sets are pooled in the in-distribution figures.

Mayne et al. 2024 (arXiv 2411.08790): of Gemma-2-2B after block 14 and of a Gemma Scope autoencoder with 16,384 features,
in its units. Few, because the distributions behind the figures are not in the text and no code was released.
"""

import json
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from steerkit.errors import need

FOLDER = Path(__file__).parent / "data" / "published"
VECTOR, ZERO = "corrigible-neutral-HHH", "zero"  # the inputs whose features Mayne et al. show
MAIN = "llama2-7b"  # the model of figures 1 to 4, and the only one with per-sample statistics
FACTS = ("order", "label", "short_name", "category", "n", "n_train", "n_test", "n_test_also_in_train")


@cache
def _read(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def tan() -> dict[str, Any]:
    """Everything known of the numbers of Tan et al., as stored (its key "layout" says what the others hold); read-only."""
    return _read("tan2024.json")


SELECTED: tuple[str, ...] = tuple(tan()["selected"])  # the 13 sets of the main figures


def _check_known(what: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name that the paper does not have, with the nearest names it has."""
    names = sorted(known)
    # A part of a long name is near to a reader, but not to the ratio of difflib.
    containing = [one for one in names if name and name.lower() in one.lower()]
    near = containing or get_close_matches(name, names, n=5, cutoff=0.4) or names
    found, step = f"{name!r}, which the paper does not have", "take one of " + ", ".join(near[:5]) + "."
    need(name in names, what, found, step, "Nothing was looked up.")


@cache
def _datasets() -> pd.DataFrame:
    rows = {}
    for name, entry in tan()["datasets"].items():
        rows[name] = row = {fact: entry[fact] for fact in FACTS}
        for what in ("mean", "variance"):
            row |= {f"{what}_{model}": values[0] for model, values in entry[what].items()}
        row |= {f"{column}_{MAIN}": value for column, value in entry.get(f"{MAIN}_id", {}).items()}
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("name").sort_values("order")
    return frame.astype(dict.fromkeys(frame.columns.drop([*FACTS]), float))


def kind(name: str) -> str:
    """What the items of a data set of the paper are: "persona", statements to answer with Yes or No, or "choice"."""
    category = tan()["datasets"].get(name, {"category": "caa"})["category"]  # the pooled ones are of CAA
    return "choice" if category in ("advanced-ai-risk", "caa") else "persona"


def datasets() -> pd.DataFrame:
    """The 40 data sets of the paper with their in-distribution (BASE->BASE) numbers, one row each, in its order.

    Index ``name``; `FACTS`; then a column for each statistic and model, ``{statistic}_{model}``: mean (four models),
    variance (two), and for ``llama2-7b`` alone median, q1, q3, whisker_low, whisker_high, anti_steerable (share with
    slope <= 0), n_anti_steerable, variance_{total, letter, answer, unexplained}, mean_range_{0.5, 1.0, 1.5}.
    """
    return _datasets().copy()


def shifts() -> pd.DataFrame:
    """Means and variances by dataset, model, train and test setting (figures 5 and 6, and the appendix)."""
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

    Columns dataset, group (of the paper), positive_letter, positive_answer (empty without Yes/No), q1, median, q3,
    contaminated: every 'B and No' box, into which six of seven rows of the authors' frame fall by mistake.
    """
    rows = []
    for name, groups in tan()["boxes"].items():
        for group, quartiles in groups.items():
            letter, answer = group.split(" and ")
            answer = answer if "A and Yes" in groups else ""
            rows.append((name, group, letter, answer, *quartiles, group == "B and No"))
    columns = "dataset group positive_letter positive_answer q1 median q3 contaminated"
    return pd.DataFrame(rows, columns=columns.split())


def statistic(name: str, model: str = MAIN) -> float:
    """One number stated in the paper, or recomputed from its figures (``tan()["statistics"]`` says which).

    `name` is for example "spearman-models-id" or "spearman-id-ood:BASE->USER_NEG"; `model` a model, or two with a slash.
    NaN when the paper has the statistic, and the model, but not both together.
    """
    known = tan()["statistics"]
    _check_known("a statistic of Tan et al. 2024", name, known)
    models = {key for entry in known.values() for key in entry} - {"status"} | set(tan()["models"])
    _check_known("a model of Tan et al. 2024", model, models)
    return float(known[name].get(model, "nan"))


def dataset(name: str) -> pd.Series:
    """One row of :func:`datasets`; SteerkitError with near names when the paper does not have it."""
    _check_known("a data set of Tan et al. 2024", name, _datasets().index)
    return _datasets().loc[name].copy()


def among(names: Iterable[str]) -> list[str]:
    """Those of the names that are data sets of the paper; a user's own file is none."""
    return [name for name in names if name in _datasets().index]


def label(name: str) -> str:
    """The short plot label of a data set; a set that is not of the paper keeps its own name, a file without its folder."""
    return str(_datasets()["label"].get(name, Path(name).name))


def personas(name: str) -> tuple[str, str]:
    """The positive and the negative sentence of a data set, verbatim as the paper's code uses them.

    Those of believes-AIs-are-not-an-existential-threat-to-humanity are swapped against its meaning upstream; kept so.
    """
    sentences = _read("tan2024_personas.json")["sentences"]
    _check_known("a data set of Tan et al. 2024", name, sentences)
    return sentences[name]["positive"], sentences[name]["negative"]


def mayne() -> dict[str, Any]:
    """Everything known of the numbers of Mayne et al., as stored; cached, so treat it as read-only."""
    return _read("mayne2024.json")


def inputs() -> tuple[str, ...]:
    """Names of the inputs whose most active features are published."""
    return tuple(mayne()["top_features"])


def top_features(name: str) -> pd.DataFrame:
    """The five most active features of an input of `inputs()` (Figure 2, Table 1): feature, activation, rank."""
    step = "take one of these; those of the other vectors of Table 1 were not found."
    expected, done = f"an input with published features ({', '.join(inputs())})", "Nothing was looked up."
    need(name in inputs(), expected, repr(name), step, done)
    found = pd.DataFrame(mayne()["top_features"][name], columns=["feature", "activation"])
    return found.assign(rank=found.index + 1)


def shared_features() -> int:
    """How many of the five features of the vector are also among those of the zero vector."""
    return len(set(top_features(VECTOR)["feature"]) & set(top_features(ZERO)["feature"]))


def default_component() -> tuple[int, float]:
    """Feature of Figure 3 and its encoder bias."""
    return tuple(mayne()["default_component"].values())


def signs() -> tuple[int, int, float]:
    """Figure 4: the feature with a negative part in the vector, the spurious one, and the cosine of the two."""
    return tuple(mayne()["signs"][name] for name in ("negative", "spurious", "cosine"))


def best_layer() -> tuple[int, int]:
    """Layer of the highest steerability (Figure 5) and the number of blocks of the model."""
    return tuple(mayne()["layers"].values())
