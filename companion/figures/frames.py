"""What a figure may be drawn from: checks of the tables that come in, and the published rows beside them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from companion import published
from steerkit.errors import SteerkitError
from steerkit.formats import FORMATS


def refusal(expected: str, found: str, next_step: str) -> SteerkitError:
    """The error of a figure that cannot be drawn."""
    return SteerkitError(expected, found, done="Nothing was drawn.", next_step=next_step)


def checked(frame: pd.DataFrame, columns: Sequence[str], finite: Sequence[str]) -> pd.DataFrame:
    """The frame itself, when it has rows, the columns, and finite numbers in those named in ``finite``."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        expected = f"a table with columns {', '.join(columns)}"
        raise refusal(expected, f"no {', '.join(missing)}", "pass the table that steerkit writes.")
    if frame.empty:
        raise refusal("a table with rows", "an empty one", "look at the filter or the run that made it.")
    bad = int((~np.isfinite(frame[list(finite)].to_numpy(dtype=float))).any(axis=1).sum())
    if bad:
        found = f"{bad} of {len(frame)} rows without"
        raise refusal(f"finite numbers in {', '.join(finite)}", found, "drop or mend these rows, and say so.")
    return frame


def full_vectors(frame: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """Rows of the vectors of all training pairs, in one answer format, each ``key`` once.

    Vectors of resampled pairs and random vectors share the tables and are left out here. A key that comes
    twice means that layers or runs are mixed.
    """
    kept = frame[frame["vector"] == "full"]
    if kept.empty:
        raise refusal("rows of the vector 'full'", f"only {_some(frame['vector'])}", "keep these rows.")
    one_format(kept)
    if kept.duplicated(list(key)).any():
        found = f"some twice, with layers {_some(kept['layer'])}"
        raise refusal(f"each {', '.join(key)} once", found, "choose one layer for each data set.")
    return kept


def one_format(frame: pd.DataFrame) -> str:
    """The answer format of a table that must hold only one."""
    formats = list(frame["format"].unique())
    if len(formats) != 1 or formats[0] not in FORMATS:
        *most, last = FORMATS
        expected = f"one answer format: {', '.join(most)} or {last}"
        raise refusal(expected, _some(formats), "choose the rows of one format.")
    return formats[0]


def span(values: Iterable[pd.Series | np.ndarray]) -> tuple[float, float]:
    """Ends of an axis that holds all values, and zero, with a little room: the same for figures shown as tabs."""
    everything = np.concatenate([np.asarray(each, dtype=float).ravel() for each in values])
    low, high = min(0.0, everything.min()), max(0.0, everything.max())
    room = 0.04 * (high - low)
    return low - room, high + room


def _some(values: Iterable[object]) -> str:
    return ", ".join(sorted({str(value) for value in values})[:6])


def in_distribution(names: Iterable[str]) -> pd.DataFrame:
    """Published in-distribution numbers of Llama-2-7b for these data sets, in this order.

    Returns
    -------
    DataFrame
        Index the names; columns mean, median, q1, q3, anti_steerable, variance_total, ... (logits per unit
        multiplier, and its square); NaN where the paper shows none.
    """
    suffix = f"_{published.MAIN}"
    frame = published.datasets().reindex(list(names))
    columns = [column for column in frame.columns if column.endswith(suffix)]
    return frame[columns].rename(columns=lambda column: column.removesuffix(suffix))


def gap(name: str) -> str:
    """Why a row has no published values."""
    tan = published.tan()
    if name not in tan["datasets"]:
        return "not in the paper"
    return "pooled in the paper" if name in tan["pooled"]["sycophancy"]["members"] else "no published value"


def tick(name: str) -> str:
    """The label of a data set on at most two lines; a long name of a user's own set is cut."""
    return lines(published.label(name), 22)


def lines(text: str, width: int) -> str:
    """At most two lines of at most ``width`` letters."""
    return "\n".join(textwrap.wrap(text, width, max_lines=2, placeholder="…"))


def number(value: float) -> str:
    """Three digits and a true minus."""
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def signed(value: float) -> str:
    """Three digits, always with a sign."""
    return f"{value:+.3g}".replace("-", "\N{MINUS SIGN}")


def sets(count: int) -> str:
    """'1 data set', '13 data sets'."""
    return f"{count} data set{'' if count == 1 else 's'}"


def rank_correlation(left: pd.Series, right: pd.Series) -> tuple[float, int]:
    """Spearman's coefficient over the entries that both have, and their number.

    The coefficient is NaN when fewer than three are shared, or one side does not vary.
    """
    both = pd.concat([left, right], axis=1, keys=["left", "right"]).dropna()
    if len(both) < 3 or both["left"].nunique() < 2 or both["right"].nunique() < 2:
        return float("nan"), len(both)
    ranks = both.rank()
    return float(ranks["left"].corr(ranks["right"])), len(both)
