"""What goes together: vectors with the model, the data and the autoencoder that they are used with."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from companion.cli.screen import plain
from companion.data.datasets import Dataset
from companion.data.splits import group_items
from companion.models import weights_of
from steerkit.errors import need
from steerkit.items import Item, fold
from steerkit.model import Model
from steerkit.ndif.address import OFF

if TYPE_CHECKING:
    from steerkit.sae import Sae

logger = logging.getLogger(__name__)
OVERLAPS = ("all", "as-released")  # splits whose items train and test, on purpose
FORCE = "or give --force."
OTHERS = {"Yes": "No statements", "No": "Yes statements"}
EXCHANGE, STATEMENT = "exchange the options of", "or use --format statement."
FEW = 5  # training pairs, below which a vector is mostly theirs
LAYERS = "0-based; the vector of layer l is read from, and added to, the output of block l"


def origin(name: str, model: Model) -> dict[str, Any]:
    """What a manifest says of a model: `given` finds it again, `weights` tells whether it is still the same."""
    given = str(Path(name).resolve()) if Path(name).is_dir() else name
    weights = model.source.get("sha256") or weights_of(name, model.remote or OFF)
    about = {"model": model.name, "given": given, "weights": weights, "source": model.source}
    return about | {"template": model.template.about(), "layer_convention": LAYERS}


def items_hash(items: Sequence[Item]) -> list[str]:
    """Eight digits for what each item asks, whatever file, row and order of options it is in."""
    asked = {"\n".join((*item.same_question_key, fold(item.statement or ""))) for item in items}
    return sorted(hashlib.sha256(text.encode()).hexdigest()[:8] for text in asked)


def said(about: Any, *path: str) -> str:
    """A text in a manifest, empty where there is none: a file's manifest is what somebody wrote into it."""
    for name in path:
        about = about.get(name) if isinstance(about, dict) else None
    return about if isinstance(about, str) else ""


def check_model(vectors: dict[str, Any], model: dict[str, Any], force: bool) -> None:
    """Refuse vectors of other weights; another precision, or other prompts, are said."""
    about, weights = vectors.get("inputs"), said(vectors, "inputs", "weights")
    if not weights:
        logger.warning("The vectors do not say which model they are of: nothing to compare.")
        return
    of, here = f"{said(about, 'model')} ({weights[:12]})", f"{model['model']} ({model['weights'][:12]})"
    same, known = weights == model["weights"], ("@" in weights) == ("@" in model["weights"])
    step = f"extract vectors of this model, {FORCE}"
    need(force or same or not known, f"the model that the vectors are of, {of}", here, step)
    if not same:  # forced, or a revision on the hub beside a hash of files, here or on a server
        logger.warning(plain(f"The vectors are of {of}, and the model is {here}."))
    ways = {"precision": ("source", "dtype"), "chat template": ("template", "sha256"), "format": ("format",)}
    for what, path in ways.items():
        one, other = said(about, *path)[:12], said(model, *path)[:12]
        if one and other and one != other:
            text = f"The vectors were extracted in another {what}: {one}, and here it is {other}."
            logger.warning(plain(text))


def check_items(vectors: dict[str, Any], tested: dict[str, Any], items: Sequence[Item], force: bool) -> None:
    """Refuse test items that trained the vectors, unless the split is one that overlaps on purpose."""
    about = vectors.get("inputs") or {}
    alike = all(said(about, name) == tested[name] for name in ("data_sha256", "split"))
    if alike and tested["split"] in OVERLAPS:
        return
    listed = about.get("trained_on")
    trained = {*map(str, listed)} if isinstance(listed, list) else set()
    groups, seen = group_items(items), [not trained.isdisjoint(items_hash([item])) for item in items]
    of = f"{len({g for g, s in zip(groups, seen, strict=True) if s})} of {len({*groups})} groups"
    found = f"{sum(seen)} of {len(items)} ({of}) among those that trained the vectors"
    found += f" (split {said(about, 'split')}, seed {about.get('seed')})"
    step = f"give the data, --split and --seed of the extraction, {FORCE}"
    need(force or not any(seen), "test items that did not train the vectors", found, step)
    if any(seen):
        logger.warning(plain(f"Of the test items {found}."))


def check_labels(items: Sequence[Item], labels: Sequence[str]) -> None:
    """Refuse training answers that are all one label, and warn of many: the mean difference has the label's direction."""
    if len(items) < 2 or not labels:
        return
    found = Counter(item.positive_answer or item.positive_letter for item in items)
    [(one, most)], row, count = found.most_common(1), items[0], len(items)
    if row.kind == "choice" and one not in labels:  # no letter is shown
        return
    shown = f"{one!r} in all {count} rows, such as {row.id}: {(row.statement or row.stem or '')[:60]!r}"
    other = OTHERS.get(one) if row.kind == "persona" else None  # has no options to exchange
    step = f"add as many {other}." if other else f"{EXCHANGE} half of the rows, {STATEMENT}"
    need(most < count, "both answers among the training items", shown, step)
    if 2 * most - count > max(2, count / 50):
        text = f"Of {count} training items {most} have the answer {one!r}: the vector points towards it as well. "
        mend = f"add {other}" if other else f"{EXCHANGE} some rows"
        logger.warning(f"{text}Next: {mend}, {STATEMENT}")


def check_count(pairs: int) -> None:
    """Warn of a vector of few pairs: nothing else tells it from one of many."""
    if pairs < FEW:
        text = f"Training pairs: {pairs}. A vector of so few points to what these rows happen to say. Next: add rows."
        logger.warning(text)


def check_data(vectors: dict[str, Any], dataset: Dataset, force: bool) -> None:
    """Refuse other pairs than those of the vectors."""
    wanted = said(vectors, "inputs", "data_sha256")
    expected = f"the data of the vectors, {said(vectors, 'inputs', 'dataset')} ({wanted[:12]})"
    found, step = f"{dataset.name} ({dataset.sha256[:12]})", f"give that file, {FORCE}"
    need(force or wanted == dataset.sha256, expected, found, step)


def check_sae(vectors: dict[str, Any], sae: Sae) -> None:
    """Say that an autoencoder names another model; names are no identity, so it is no more than said."""
    own = said(vectors, "inputs", "model")
    one, other = (re.sub(r"[\W_]", "", name.rpartition("/")[2].lower()) for name in (own, sae.model))
    if one and other and one not in other and other not in one:
        logger.warning(plain(f"The autoencoder was trained on {sae.model}, and the vector is of {own}."))
