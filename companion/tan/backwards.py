"""Which items go backwards under the vector of the other pairs of their set, as registered in `backwards.yaml`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from companion.tan import pairs
from companion.tan.words import describe, log_odds
from steerkit import stats
from steerkit.errors import need

FEATURES = ("cosine", "accessibility", "margin", "surprise", "words", "length")  # of an item
OF_SET = "agreement"
ALL = (*FEATURES, OF_SET)
LEXICAL = ("words", "length")
FEWEST = 3  # items of a set on either side, for an area under the curve
LINE, TENTHS, SHUFFLES = 0.65, 10, 99


def features(table: pd.DataFrame) -> pd.DataFrame:
    """What is known of each item without steering, and how it went: a row an item of a PRODUCTS table.

    Columns dataset, example_id, `FEATURES` (standardised within their set), agreement (of the set), slope (under the mean
    of the others, nats per token) and backwards (below 0).
    """
    parts = []
    for each in pairs.sets(table):
        others = [[text for j, text in enumerate(each.texts) if j != i] for i in range(len(each.ids))]
        told = [describe([each.texts[i]], log_odds(rest)).iloc[0] for i, rest in enumerate(others)]
        own = {"cosine": pairs.projections(each.product) / np.sqrt(np.diag(each.product))}
        own |= {"accessibility": pairs.by_others(each.direct)}
        own |= {"margin": each.margin, "surprise": each.surprise}
        own |= {"words": [row["score"] for row in told], "length": np.log([row["ratio"] for row in told])}
        part = StandardScaler().set_output(transform="pandas").fit_transform(pd.DataFrame(own))
        slope = pairs.by_others(each.slope)
        part = part.assign(agreement=pairs.agreement(each.product), slope=slope, backwards=slope < 0)
        parts.append(part.assign(dataset=each.dataset, example_id=each.ids))
    return pd.concat(parts, ignore_index=True)


def fit(items: pd.DataFrame, columns: Sequence[str] = ALL) -> Pipeline:
    """A logistic regression of `backwards` on some features."""
    both = items["backwards"].nunique() == 2
    need(both, "items that go forwards and some that go backwards", "one kind", "use more data sets.")
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(items[[*columns]], items["backwards"])


def predicted(model: Pipeline, items: pd.DataFrame) -> np.ndarray:
    """The probability that each item goes backwards."""
    return model.predict_proba(items[[*model.feature_names_in_]])[:, 1]


def areas(scores: np.ndarray, items: pd.DataFrame) -> pd.DataFrame:
    """Area under the curve of scores [n] by data set (index), where both sides have `FEWEST` items.

    Columns area, and one a draw: the same with labels exchanged within the set.
    """
    found, rng = {}, np.random.default_rng(0)
    for name, part in items.assign(score=scores).groupby("dataset", sort=False):
        labels = part["backwards"].to_numpy()
        labels = np.stack([labels, *(rng.permutation(labels) for _ in range(SHUFFLES))])
        ones, zeros = labels[0].sum(), (~labels[0]).sum()
        if min(ones, zeros) >= FEWEST:  # Mann and Whitney 1947
            found[name] = (labels @ rankdata(part["score"]) - ones * (ones + 1) / 2) / (ones * zeros)
    need(len(found) > 1, f"two sets with {FEWEST} items on either side", str(len(found)), "use more sets.")
    return pd.DataFrame.from_dict(found, orient="index").rename(columns={0: "area"})


def judged(fitted_on: pd.DataFrame, items: pd.DataFrame, other: pd.DataFrame | None = None) -> pd.DataFrame:
    """How well sets never seen are told, from `features` of the sets fitted on, of those judged, and of another model.

    One row a choice of features (all, words and length, each alone), one for the other model's slopes: features, sets,
    area, low, high (over sets), null_most (95% point with labels exchanged within sets), pooled (over all items), more,
    more_low, more_high (area above that of words and length, paired over sets).
    """
    chosen = {"all": ALL, "words and length": LEXICAL} | {name: (name,) for name in FEATURES}
    scores = {name: predicted(fit(fitted_on, columns), items) for name, columns in chosen.items()}
    if other is not None:
        slopes = other.set_index(["dataset", "example_id"])["slope"]
        asked = pd.MultiIndex.from_frame(items[["dataset", "example_id"]])
        scores["slopes of the other model"] = -slopes.loc[asked].to_numpy()
    words, rows = areas(scores["words and length"], items)["area"], []
    for name, own in scores.items():
        found = areas(own, items)
        mean, more = (stats.mean_interval(each) for each in (found["area"], found["area"] - words))
        most = np.quantile(found.drop(columns="area").mean(), 0.95)
        ends = [(each.estimate, each.low, each.high) for each in (mean, more)]
        rows.append((name, len(found), *ends[0], most, roc_auc_score(items["backwards"], own), *ends[1]))
    columns = "features sets area low high null_most pooled more more_low more_high"
    return pd.DataFrame(rows, columns=columns.split())


def calibration(scores: np.ndarray, items: pd.DataFrame) -> pd.DataFrame:
    """Predicted share that goes backwards beside the observed one, by tenths of the prediction: n, predicted, observed."""
    tenth = pd.qcut(pd.Series(scores).rank(method="first"), TENTHS, labels=False).to_numpy()
    rows = pd.DataFrame({"tenth": tenth, "predicted": scores, "observed": items["backwards"].to_numpy()})
    found = rows.groupby("tenth").agg({"predicted": "mean", "observed": "mean"})
    return found.assign(n=rows.groupby("tenth").size()).reset_index()


def verdicts(tables: Sequence[pd.DataFrame]) -> dict[str, bool]:
    """The two registered verdicts, from `judged` of every model on the sixty sets."""
    rows = [table.set_index("features").loc["all"] for table in tables]
    told = all(row["low"] > LINE for row in rows)
    return {"predictable": told, "more than words": all(row["more_low"] > 0 for row in rows)}
