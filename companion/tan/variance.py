"""Where the spread of the slopes comes from: the variance decomposition of Tan et al. 2024 (arXiv 2407.12404)."""

from typing import Literal, get_args

import numpy as np
import pandas as pd

from steerkit.errors import one_of
from steerkit.stats import finite

Order = Literal["paper", "answer-first", "shapley"]


def variance_parts(slopes: pd.DataFrame, order: Order = "paper") -> dict[str, float]:
    """Split the variance of the slopes of one dataset, vector and layer into a letter part, a Yes/No part and the rest.

    Ordinary least squares with intercept on the 0/1 indicators positive_letter == "A" and positive_answer == "Yes",
    without interaction; with r the residual, letter = Var(s) - Var(r of s on A) and answer = Var(r of s on A) -
    Var(r of s on A and Yes). `order` says which factor gets what both explain: the letter, the answer, or half each
    (the mean of the two orders: Lindeman, Merenda and Gold 1980). Without overlap, as in balanced data, all agree.
    Keys total, letter, answer, unexplained: variances (slope squared, divided by n), of which the last three sum to the
    first; a factor that is constant or empty has a part of exactly 0.
    """
    one_of("an order", order, get_args(Order))
    steerability = finite("slopes", slopes["steerability"])
    letter = slopes["positive_letter"].isin(["A"]).to_numpy(dtype=np.float64)
    answer = slopes["positive_answer"].isin(["Yes"]).to_numpy(dtype=np.float64)
    factors = (letter, answer), (letter,), (answer,)
    both, letter_first, answer_first = (float(explained(steerability, *some)) for some in factors)
    parts = {
        "paper": (letter_first, both - letter_first),
        "answer-first": (both - answer_first, answer_first),
        "shapley": ((letter_first + both - answer_first) / 2, (answer_first + both - letter_first) / 2),
    }[order]
    total = float(np.var(steerability))
    # A part cannot be negative; where one factor determines the other, rounding leaves -1e-17.
    letter_part, answer_part, rest = (max(0.0, part) for part in (*parts, total - both))
    return {"total": total, "letter": letter_part, "answer": answer_part, "unexplained": rest}


def explained(values: np.ndarray, *indicators: np.ndarray) -> np.ndarray:
    """Variance of values [..., p] that least squares on indicators [p] and an intercept explains."""
    # Constant columns are dropped, so that a factor without variation explains exactly 0, not 1e-17.
    columns = [column - column.mean() for column in indicators if np.ptp(column) > 0]
    if not columns:
        return np.zeros(values.shape[:-1])
    design = np.column_stack(columns)  # centring values and columns stands for the intercept
    centred = (values - values.mean(axis=-1, keepdims=True)).T
    return np.var(design @ np.linalg.lstsq(design, centred, rcond=None)[0], axis=0)
