"""The start page: the findings in sentences, one example of steered text, and how the claims fared, from the runs.

The words before a colon depend on the numbers behind it: a run that found something else says so.
"""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from _ext import pages
from _ext.markdown import table
from companion.claims import CLAIMS
from companion.profiles import BOOK_FORMATS, load_profile
from companion.results import Result
from companion.tan.texts import PAIRS
from companion.trials import both_models
from companion.verdicts import AGREES, DIFFERS, OURS, UNSPECIFIC, UNTESTABLE

BY_ID = {one.id: one for one in CLAIMS}
ORDER, BACKWARDS = BY_ID["dataset-property"], BY_ID["backwards-whichever-pairs"]
AUTHORS = {
    "concept": "How far a concept can be steered is decided more by the concept than by the text.",
    "text": "How far a concept can be steered is decided more by the text than by the concept.",
    "undecided": "Neither the concept nor the text decides alone how far a concept can be steered.",
}
TOKENS = {
    "tokens do as much": "Raising single tokens moves given answers as far as a vector does.",
    "the vector does more": "A vector does more than raising single tokens.",
    "undecided": "Whether a vector does more than raising single tokens is not decided.",
}
MANY = 0.05  # share of items that move the wrong way, from which a vector is not reliable
SHOWN = (-1.5, 0.0, 1.5)  # multipliers of the example: the range of the papers


def findings(own: Iterable[Result]) -> str:
    """A numbered list of what was found; what the runs at hand do not tell is left out."""
    by_id = {result.exhibit.id: result for result in own}
    finds = (_reliability, _order, _shift, _text, _authors, _tokens, _autoencoder)
    told = [find(by_id) for find in finds]
    return "\n".join(f"{at}. {said}" for at, said in enumerate(filter(None, told), 1))


def _table(by_id: dict[str, Result], exhibit: str, part: str) -> pd.DataFrame | None:
    path = by_id[exhibit].folder / f"{exhibit}-{part}.csv" if exhibit in by_id else None
    return pd.read_csv(path) if path is not None and path.exists() else None


def _reliability(by_id: dict[str, Result]) -> str | None:
    tables = {form: _table(by_id, "tan-fig-1", form) for form in BOOK_FORMATS}
    form, found = next((each for each in tables.items() if each[1] is not None), (None, None))
    if found is None:
        return None
    wrong, theirs = found["anti_steerable"], found["published_anti_steerable"].median()
    what = "backwards on many examples" if wrong.median() >= MANY else "on nearly every example"
    name = by_id["tan-fig-1"].label.partition(",")[0]
    every, sure = _table(by_id, "tan-fig-1", "intervals"), ""
    if every is not None:
        own = every[(every["model"] == name) & (every["format"] == form)]
        sure = f" (surely in {(own['low'] > 0).sum()})"
    return (
        f"**A vector that works on average works {what}.** In {name} (*{form}*) the mean effect is positive in "
        f"{(found['mean'] > 0).sum()} of {len(found)} data sets{sure}; in the median set {wrong.median():.0%} of the test "
        f"items move the wrong way (paper: {theirs:.0%}).{_all_sets(by_id)}{_whichever(by_id, form)} [Reliability](tan/reliability.md)"
    )


def _all_sets(by_id: dict[str, Result]) -> str:
    """The same of all sets, from the record of the run's model on the papers' own data."""
    if "tan-app-fig-1" not in by_id:
        return ""
    settings = load_profile(by_id["tan-app-fig-1"].profile)
    every = map(load_profile, settings.compared)
    names = [one.profile for one in every if (one.model, one.source) == (settings.model, "papers")]
    found = _table(by_id, "tan-app-fig-1", f"{names[0]}-statement") if names else None
    if found is None:
        return ""
    wrong, theirs = (found[each].dropna() for each in ("anti_steerable", "published_anti_steerable"))
    return f" Over all {len(found)} sets of the papers' own data it is {wrong.median():.0%} (paper: {theirs.median():.0%})."


def _whichever(by_id: dict[str, Result], form: str) -> str:
    """How many of these items are more than an accident of the training pairs."""
    own = by_id.get("tan-claims")
    if own is None:
        return ""
    rows, name = pages.claims(own), load_profile(own.profile).model
    rows = rows[(rows["claim"] == BACKWARDS.statement) & (rows["format"] == form)]
    where = {name: "on the bundled data", f"{name} (papers' data)": "on the papers' data"}
    shares = {row.model: row.ours.partition(";")[0] for row in rows.itertuples()}
    found = [f"{where[model]} {share}" for model, share in shares.items() if model in where]
    what = " Moved backwards by nearly all vectors from redrawn pairs: "
    return f"{what}{', '.join(found)}." if found else ""


def _order(by_id: dict[str, Result]) -> str | None:
    if "tan-claims" not in by_id:
        return None
    rows = pages.claims(by_id["tan-claims"])
    follows = rows["verdict"].isin([AGREES, UNSPECIFIC])
    kept = (rows["claim"] == ORDER.statement) & (rows["format"] == "letter") & follows
    if not kept.any():
        return None
    row = rows[kept].iloc[0]
    ours, theirs = row["ours"].partition(", the lesser")[0], row["published"].partition(" over")[0]
    null = row["where false"].partition(";")[0].replace("(", "(95% of them at most ")
    what, why = "", ""
    if row["verdict"] == UNSPECIFIC:
        what = ", and so does that of randomly labelled vectors"
        why = " What carries over is how easily the answers of a data set are moved."
    return (
        f"**In the papers' own format the order of the data sets follows that of Llama-2-7b{what}.** The rank correlation "
        f"of {pages.family(row['model'].partition(' (')[0])} with it is {ours}; of randomly labelled vectors, whichever "
        f"way they steer, {null}; between the papers' own two models, {theirs}."
        f"{why} [Generalisation](tan/generalisation.md)"
    )


def _shift(by_id: dict[str, Result]) -> str | None:
    found = _table(by_id, "tan-fig-5", "unlabelled")
    rows = found[(found["train"] == "BASE") & (found["test"] == "USER_NEG")] if found is not None else ()
    if not len(rows):
        return None
    mostly = (rows["within_shuffled"] / rows["within"]).median() > 1 / 2
    what = "; nearly as well, so does" if mostly else ", better than"
    beyond = (rows["within"] > rows["within_most"]).map({True: "", False: ", not beyond chance"})
    words = "{:.2f} against {:.2f} in {}, *{}*{}".format
    named = rows["model"].map(pages.family)
    columns = [rows["within"], rows["within_shuffled"], named, rows["format"], beyond]
    each = (words(*row) for row in zip(*columns, strict=True))
    _, theirs = both_models("spearman-id-ood:BASE->USER_NEG")
    kept = (f"{row.kept:.0%} against {row.kept_shuffled:.0%}" for row in rows.itertuples())
    return (
        f"**A vector works under another prompt{what} one that was labelled at random.** Rank correlation between steerability in "
        "distribution and under the opposite persona, over data sets of a kind, true labels against random ones: "
        f"{'; '.join(each)} (paper, over all sets: {theirs}). Of its mean slope at multiplier 0 the vector keeps {', '.join(kept)}. [Generalisation](tan/generalisation.md#figure-5-in-and-out-of-distribution)"
    )


def _text(by_id: dict[str, Result]) -> str | None:
    found = _table(by_id, "tan-texts", "order")
    if found is None:
        return None
    rows = found[found["sets"] == "within kinds"].dropna(subset="estimate")
    same, other = (rows[rows["pair"] == pair] for pair in PAIRS[:2])
    if other.empty or same.get("placebo", pd.Series()).isna().all():
        return None
    # The pair with a null first; on whatever text, the others have what they have.
    one, *more = same.sort_values("placebo", key=pd.isna, kind="stable").itertuples()
    several = list(other.itertuples())
    what = "belongs to the text" if one.disjoint > other["high"].max() else "cannot be told from the text"
    pairs = (
        f"; other pairs of models, or texts, {', '.join(f'{each.estimate:.2f}' for each in more)}"
        if more
        else ""
    )
    sure = sum(two.low > 0 for two in several)
    itself = {0: "is not shown to agree with itself", len(several): "agrees with itself"}.get(
        sure, "may agree with itself"
    )
    coin = f"With one randomly labelled vector per set they agree at {one.placebo:.2f} "
    coin += f"({one.placebo_low:.2f} to {one.placebo_high:.2f})"
    if pd.notna(one.placebo_size):
        coin += f", and at {one.placebo_size:.2f} on how far many of them move a set on average"
    if np.nanmax([one.placebo_high, one.placebo_size]) >= one.estimate:
        coin += ": what they share is mostly how easily a text is moved"
    return (
        f"**How steerable a concept is {what}.** Two unrelated models that read the same text agree on the order of {one.n} "
        f"sets, within their kinds ({_interval(one)}{pairs}). {coin}. One model that reads what other authors wrote about the same concepts "
        f"{itself} ({'; '.join(map(_interval, several))}). [Text or concept?](tan/texts.md)"
    )


def _authors(by_id: dict[str, Result]) -> str | None:
    tables = [_table(by_id, "ext-authors", part) for part in ("verdict", "medians", "shares-intervals")]
    if any(table is None for table in tables):
        return None
    verdicts, medians, shares = (table[table.iloc[:, 0] == "new"] for table in tables)
    [verdict] = verdicts["verdict"]
    share = _ends(shares, "concept", "concept_low", "concept_high")
    others = " and ".join(f"{value:.2f}" for value in medians["others"])
    return (
        f"**{AUTHORS[verdict]}** By a rule registered before the run, on new pairs of authors, the concept has {share} of the variance "
        f"in steerability. On another author's texts of its concept a vector reaches {_ends(medians, 'median', 'low', 'high')} "
        f"of what those texts' own vector does, and vectors of other concepts {others}. "
        "[Several authors](beyond/authors.md)"
    )


def _tokens(by_id: dict[str, Result]) -> str | None:
    parts = [_table(by_id, "ext-unigram", part) for part in ("verdict", "shares", "thirds")]
    if any(part is None for part in parts):
        return None
    verdict, shares, thirds = parts
    [found] = verdict["verdict"]
    told = shares["exchanged"], shares["items"], thirds.loc[thirds["third"] == 3, "share"]
    null, items, most = (" and ".join(f"{value + 0.0:.2f}" for value in each.round(2)) for each in told)
    return (
        f"**{TOKENS[found]}** On {shares['sets'].max()} held-out sets, adding the log odds of the training answers' tokens to the "
        f"logits, as strongly as the vector moves a neutral text, moves the tests {_ends(shares, 'share', 'low', 'high')} "
        f"times as far as the vector ({most} in the third of the sets that it moves most); with randomly labelled answers "
        f"{null} times. Over the answers of a set the two effects correlate at {items}. "
        "[Single tokens](beyond/single-tokens.md), and [what is left without a common word](beyond/common-words.md)"
    )


def _autoencoder(by_id: dict[str, Result]) -> str | None:
    found = _table(by_id, "mayne-tab-1", "statement-features")
    curve = _table(by_id, "mayne-fig-2", "statement-dose")
    if found is None or curve is None:
        return None
    ours = found[(found["source"] != "published") & found["also in zero"].notna()]
    if ours.empty:
        return None
    shared, of = map(int, ours.iloc[0]["also in zero"].split(" of "))
    norm, placebos = curve["vector_norm"].iloc[0], curve[curve["what"] == "label-shuffled"]
    ends = (placebos[each] for each in ("low", "shared", "high"))
    low, null, high = (np.interp(norm, placebos["norm"], each) for each in ends)
    what = "What an autoencoder ranks first in a steering vector, it ranks first in any vector so short"
    if not low <= shared <= high:
        more = "more" if shared < low else "less"
        what = f"An autoencoder sees {more} of a steering vector than of other vectors so short"
    return (
        f"**{what}.** Of the first {of} features of the vector {shared} are among the first {of} of the zero vector as well; "
        f"in randomly labelled vectors {null:.1f} (nine in ten of them have {low:.0f} to {high:.0f}). How the autoencoder was trained decides whether zero activates "
        "anything: [the verdicts by autoencoder](mayne/claims.md). [Encoding](mayne/encoding.md)"
    )


def example(own: Iterable[Result]) -> str:
    """The text of the most steerable data set at three multipliers."""
    texts = _table({result.exhibit.id: result for result in own}, "tan-steered", "texts")
    if texts is None:
        return ""
    most = texts[(texts["steerable"] == "most") & texts["multiplier"].isin(SHOWN)]
    names = {"multiplier": "multiplier", "text": "the model writes", "surprise": "surprise, nats a token"}
    rows = most[[*names]].rename(columns=names).round(2).to_dict("records")
    head = f"The behaviour is *{most['dataset'].iloc[0]}*, the most steerable data set of the run; the multipliers are the "
    head += "ends of the papers' range, and surprise is that of the unsteered model. "
    return f"{head}[More text, and where it breaks](tan/steered.md)\n\n{table(rows)}"


def score(own: list[Result]) -> str:
    """Of so many claims, how many hold: a claim counts by the runs in which it could be tested."""
    rows = pages.claims(own[0])
    theirs = rows[rows["published"] != OURS]
    kinds = theirs.groupby("claim")["verdict"].agg(lambda verdicts: _kind({*verdicts} - {UNTESTABLE}))
    counts, more = kinds.value_counts(), rows["claim"].nunique() - len(kinds)
    said = ", ".join(f"**{counts.get(kind, 0)}** {words}" for kind, words in KINDS.items())
    return f"Of {len(kinds)} claims of both papers: {said}. {more} more are this book's own."


KINDS = {
    "reproduced": "hold in every run that could test them",
    "partly": "hold in some runs, and are undecided or not specific in the others",
    "mixed": "hold in some runs and fail in others",
    "not": "hold in none",
    "unspecific": "hold in number, and for placebos as much",
    "open": "are open (every interval includes both answers)",
    "untestable": "cannot be tested on these models",
}


def _kind(verdicts: set[str]) -> str:
    if not verdicts:
        return "untestable"
    if {AGREES, DIFFERS} <= verdicts:
        return "mixed"
    if AGREES in verdicts:
        return "reproduced" if verdicts == {AGREES} else "partly"
    if DIFFERS in verdicts:
        return "not"
    return "unspecific" if UNSPECIFIC in verdicts else "open"


def _ends(rows: pd.DataFrame, middle: str, low: str, high: str) -> str:
    """A number with its interval, of every model."""
    numbers = rows[[middle, low, high]].to_numpy().round(2) + 0.0  # no "-0.00"
    told = (f"{a:.2f} [{b:.2f}, {c:.2f}]" for a, b, c in numbers)
    named = map(pages.family, rows["model"])
    return " and ".join(f"{each} ({name})" for each, name in zip(told, named, strict=True))


def _interval(row: tuple) -> str:
    return f"ρ = {row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}]"


PARTS: dict[str, Callable[[list[Result]], str]] = {"findings": findings, "example": example, "score": score}
