"""What tells beforehand how far a data set can be steered, as registered in `predict.yaml`.

Half of the pairs of a set are its training pairs. What can be known of them without steering is set against the slopes of
the other half under their mean difference.
"""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd

from companion import published
from companion.inference import holm
from companion.tan import pairs
from companion.tan.pairs import Pairs, by_others
from companion.tan.ranks import correlated
from companion.tan.texts import PUBLISHED
from companion.tan.words import describe, log_odds

PREDICTORS = ("agreement", "separation", "norm ratio", "accessibility", "surprise", "margin")
CONTROLS = ("norm", "words")
MEASURED, TARGET = "measured", "steerability"
DRAWS = 500  # of twenty halvings each
NAMED = (*PREDICTORS, *CONTROLS, MEASURED)
KNOWN = (*NAMED, TARGET)
LINE = 0.5  # a rank correlation that is good enough to say what to expect


def known(found: Pairs, train: np.ndarray) -> dict[str, float]:
    """What is known of training pairs [n] (indices) before anything is steered: `PREDICTORS`, and the norm of the vector;
    and `measured`, their own slope under the mean of the others."""
    square = np.ix_(train, train)
    products = found.product[square]
    along, norm = pairs.projections(products), float(np.sqrt(products.mean()))
    return {
        "agreement": pairs.agreement(products),
        "separation": float(along.mean() / along.std(ddof=1)),
        "norm ratio": norm / float(np.sqrt(np.diag(products)).mean()),
        "accessibility": float(by_others(found.direct[square]).mean()),
        "surprise": float(found.surprise[train].mean()),
        "margin": float(found.margin[train].mean()),
        "norm": norm,
        MEASURED: float(by_others(found.slope[square]).mean()),
    }


def halvings(table: pd.DataFrame) -> pd.DataFrame:
    """What is known of one half of the pairs of each set, and the steerability of the other: a row a set and halving."""
    rows = []
    for each in pairs.sets(table):
        for halving, (a, b, c, d) in enumerate(each.quarters()):
            train, test = np.concatenate([a, b]), np.concatenate([c, d])
            odds = log_odds(each.texts[i] for i in train)
            told = describe((each.texts[i] for i in test), odds)["told"].mean()
            row = {"dataset": each.dataset, "kind": each.kind, "halving": halving} | known(each, train)
            rows.append(row | {"words": told, TARGET: each.slope[np.ix_(test, train)].mean()})
    return pd.DataFrame(rows)


def league(found: pd.DataFrame) -> pd.DataFrame:
    """Rank correlations within kinds of every predictor with steerability, from `halvings` of one model.

    Columns predictor, given ("", or the control whose ranks are held constant), n, estimate, low, high, p, holm (p
    corrected for the predictors; NaN for what is none).
    """
    kinds, rows = found.groupby("dataset", sort=False)["kind"].first(), []
    wide = {name: found.pivot(index="dataset", columns="halving", values=name) for name in KNOWN}
    for given, name in product(("", *CONTROLS), NAMED):
        if name != given:
            row = correlated(wide[name], wide[TARGET], kinds, wide.get(given), DRAWS)
            rows.append({"predictor": name, "given": given} | row)
    table = pd.DataFrame(rows)
    tested = table["p"].where(table["predictor"].isin(PREDICTORS))
    return table.assign(holm=tested.groupby(table["given"]).transform(holm))


def judged_by_published(found: pd.DataFrame) -> pd.DataFrame:
    """Rank correlations within kinds of the same with the published steerability of the papers' models: not registered.

    `found` are `halvings` of one model on the forty sets. Columns as in `league`, and `published`, the model whose values
    judge; holm is over predictors and published models.
    """
    kinds, rows = found.groupby("dataset", sort=False)["kind"].first(), []
    theirs, own = published.datasets(), found.groupby("dataset")[[*KNOWN]].mean()
    for model, name in product(PUBLISHED, NAMED):
        row = {"published": model, "predictor": name}
        rows.append(row | correlated(own[name], theirs[f"mean_{model}"].dropna(), kinds))
    table = pd.DataFrame(rows)
    return table.assign(holm=holm(table["p"].where(table["predictor"].isin(PREDICTORS))))


def choice(leagues: Mapping[str, pd.DataFrame]) -> str:
    """The predictor with the highest correlation given the norm, in the mean over models: of the forty sets."""
    every = pd.concat(leagues.values()).query("given == 'norm' and predictor in @PREDICTORS")
    return str(every.groupby("predictor")["estimate"].mean().idxmax())


def verdict(chosen: str, leagues: Mapping[str, pd.DataFrame]) -> str:
    """The registered verdict on the chosen predictor: "good enough", "goes with it" or "none", from the sixty sets."""
    own = pd.concat(leagues.values()).query("predictor == @chosen")
    if not (own["low"] > 0).all():
        return "none"
    return "good enough" if (own.loc[own["given"] == "", "estimate"] >= LINE).all() else "goes with it"
