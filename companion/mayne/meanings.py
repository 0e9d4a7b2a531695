"""What a feature is about: the places in plain text where it is most active.

A number is no meaning. The texts say what a feature answers to, as far as so few tokens can; one that never fires
there has none.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from companion.data.plain_text import SKIP, plain_text, windows
from companion.mayne.activations import Case, Plain
from companion.outline import outline
from steerkit.errors import need

BEFORE, AFTER = 6, 2  # tokens shown around one


def top_texts(case: Case, plain: Plain, features: Sequence[int], count: int = 10) -> pd.DataFrame:
    """The `count` windows of plain text in which each feature is most active, and where in them.

    `plain` is `activations.plain(case)`. Columns feature, active (share of all tokens), rank, activation, text (with the
    token between two marks); a feature that is never active has no row.
    """
    about = outline(case.settings.model)
    known = plain.manifests[-1]["inputs"]
    text = plain_text(known["tokens"], case.dataset, "", case.settings.seed)
    same = text.sha256 == known["text_sha256"]
    need(same, "activations of the plain text of the package", known["text"], "leave the file of text out.")
    tokens = windows(about, text.text, known["tokens"])
    each = tokens.shape[1] - SKIP  # tokens of a window that were kept
    active = case.sae.encode(plain.values)[:, list(features)]
    rows = []
    for column, feature in enumerate(features):
        found = pd.Series(active[:, column].numpy())
        best = found.groupby(found.index // each).idxmax()
        best = found[best[found[best].to_numpy() > 0]].nlargest(count)
        for rank, (at, value) in enumerate(best.items()):
            window, place = tokens[at // each].tolist(), at % each + SKIP
            row = {"feature": int(feature), "active": float((found > 0).mean()), "rank": rank}
            rows.append(row | {"activation": value, "text": shown(about.tokenizer, window, place)})
    return pd.DataFrame(rows, columns=["feature", "active", "rank", "activation", "text"])


def shown(tokenizer: Any, window: Sequence[int], place: int) -> str:
    """A token with some before and after, itself between two marks."""
    start = max(SKIP, place - BEFORE)
    parts = window[start:place], window[place : place + 1], window[place + 1 : place + 1 + AFTER]
    before, token, after = (tokenizer.decode(part) for part in parts)
    return " ".join(f"{before}«{token}»{after}".split())
