"""What is raised and what is lowered: the slope of a pair is that of its matching text minus that of the other.

A vector may raise the matching text, or only lower the other one more. The two slopes are a common part, plus and minus half of
the steerability. The common part knows no label: with labels exchanged it has the other sign.
"""

import numpy as np
import pandas as pd

from companion.tan.means import means

MORE, LESS, OPEN = "more likely", "less likely", "not decided"


def by_set(table: pd.DataFrame) -> pd.DataFrame:
    """What the vector does to the log-probability of either text, by run and data set; of the SLOPES of `texts.read`.

    Columns run, dataset, kind; mean, low and high steerability; the same of the slopes of the two texts, as matching,
    matching_low, ... and other, ...; steerable (low > 0); text (is the matching text itself more or less likely, or has
    its interval 0 inside). Slopes are a token, or of whole texts after `controls.summed`.
    """
    full, by = table[table["vector"] == "full"], ["run", "dataset"]
    found = full.groupby(by, sort=False)[["kind"]].first()
    columns = {"": "steerability", "matching": "matching_slope", "other": "not_matching_slope"}
    for name, column in columns.items():
        own = means(full.assign(steerability=full[column]), by, "group").set_index(by).drop(columns="n")
        found = found.join(own.set_axis([name, f"{name}_low", f"{name}_high"], axis=1) if name else own)
    text = np.select([found["matching_low"] > 0, found["matching_high"] < 0], [MORE, LESS], OPEN)
    found = found.reset_index()
    return found.assign(run=found.pop("run"), steerable=found["low"] > 0, text=text, kind=found.pop("kind"))


def accounts(found: pd.DataFrame) -> pd.DataFrame:
    """How many steerable sets of each run make the matching text more likely, less likely, or leave it open.

    Columns run, steerable, the three, sets; raised, the share of the steerable sets of which the matching text gains at
    all, and raised_chance, the same if the common part had a sign by chance: a half where it is larger than half of the
    steerability, else one.
    """
    steers = found["steerable"]
    texts = {text: steers & (found["text"] == text) for text in (MORE, LESS, OPEN)}
    counts = pd.DataFrame({"steerable": steers, **texts}).assign(sets=1)
    common = (found["matching"] + found["other"]).abs()
    shares = {"raised": found["matching"] > 0, "raised_chance": np.where(common < found["mean"], 1.0, 0.5)}
    shares = pd.DataFrame(shares)[steers].groupby(found["run"], sort=False).mean()
    return counts.groupby(found["run"], sort=False).sum().join(shares).reset_index()
