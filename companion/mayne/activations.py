"""The runs of Mayne et al. 2024 (arXiv 2411.08790): activations of answers and of plain text, and steering with
what a decomposition leaves of a vector.

    settings, data set, format, autoencoder -> case -> contrast (activations), plain text, behaviour

Everything is read from the residual stream after one block, the autoencoder's. In `letter` the answer is the letter
token. In `statement` it is the completion: its mean over tokens makes the steering vector, as in extraction, and some
of its tokens stand for it wherever an autoencoder reads, because the mean of many tokens is an input it never met.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from companion import store
from companion.data.plain_text import plain_text
from companion.profiles import Settings
from companion.saes import SCOPE_NAMES, default_sae, open_sae
from companion.tan import jobs
from companion.tan.experiment import check_format
from companion.tan.jobs import Job
from steerkit.errors import SteerkitError
from steerkit.files import syntax_hash

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from steerkit.sae import Sae
    from steerkit.vectors import Vectors

DATASET = "corrigible-neutral-HHH"
# The vectors of Table 1: the paper's, and six whose names exist among the bundled and the papers' data sets.
SEVEN = (
    DATASET, "myopic-reward", "power-seeking-inclination", "survival-instinct", "self-awareness-general-ai",
    "narcissism", "openness",
)  # fmt: skip
# CAA's own split (Rimsky et al. 2023): files of its own for training and test.
CAA_PARTS = {
    "caa/corrigible-neutral-HHH": ("caa/generate/corrigible-neutral-HHH", "caa/test/corrigible-neutral-HHH")
}
ANSWER_TOKENS = 16  # of each completion in `statement`, see `Contrast`
VALUES = 4096  # activations of plain text that are kept whole; norms are kept of all tokens
# What turns activations into the numbers of these tables, beside `store.NUMERIC_CODE`, which every key holds.
CODE = ("companion/mayne/activations.py", "companion/mayne/runs.py", "companion/data/plain_text.py")
KEPT_INPUTS = (
    "model", "weights", "dataset", "source", "data_sha256", "format", "split", "limits", "seed", "spelling",
    "counterbalanced", "layer",
)  # fmt: skip
# Plain text has no answers: one table serves every format and split.
ANY_EXAMPLES = {"format": "", "split": "none", "limits": (0, 0), "counterbalanced": False}


@dataclass(frozen=True)
class Case:
    """One vector and the autoencoder it is looked at through."""

    settings: Settings
    dataset: str
    format: str
    sae_name: str
    layer: int

    @property
    def job(self) -> Job:
        """The job of the main protocol with the same examples."""
        return Job(self.settings, "grid", self.dataset, self.format, self.layer)

    @property
    def sae(self) -> Sae:
        """The autoencoder; kept."""
        return open_sae(self.sae_name, None, self.layer)

    def of(self, dataset: str) -> Case:
        """The same for another data set."""
        return replace(self, dataset=dataset)


@dataclass(frozen=True)
class Contrast:
    """Activations of the training examples: of the matching answers and of the others.

    Attributes
    ----------
    positive, negative : means over the tokens of each answer, float32 [p, d]
    positive_parts, negative_parts : m evenly spaced tokens of each answer [p, m, d]; the letter alone in `letter`
    groups : a number an example; examples of one group are drawn together when pairs are resampled
    """

    positive: torch.Tensor
    negative: torch.Tensor
    positive_parts: torch.Tensor
    negative_parts: torch.Tensor
    groups: tuple[int, ...]
    manifest: dict[str, Any]

    @property
    def vector(self) -> torch.Tensor:
        """The steering vector [d]: the mean difference."""
        return (self.positive - self.negative).mean(0)

    @property
    def positive_tokens(self) -> torch.Tensor:
        """Tokens of the matching answers, [p m, d]."""
        return self.positive_parts.flatten(0, 1)

    @property
    def negative_tokens(self) -> torch.Tensor:
        """Tokens of the other answers, [p m, d]."""
        return self.negative_parts.flatten(0, 1)

    def resamples(self, count: int, seed: int = 0) -> list[Contrast]:
        """The same from training groups drawn with replacement."""
        import numpy as np

        rng, labels = np.random.default_rng(seed), np.asarray(self.groups)
        members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        return [
            self._take(np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]))
            for _ in range(count)
        ]

    def _take(self, rows: np.ndarray) -> Contrast:
        names = ("positive", "negative", "positive_parts", "negative_parts")
        taken = {name: getattr(self, name)[rows] for name in names}
        return replace(self, **taken, groups=tuple(self.groups[i] for i in rows))


@dataclass(frozen=True)
class Plain:
    """Activations on plain text: norms of all tokens [n], values [m, d] of the first of them."""

    norms: np.ndarray
    values: torch.Tensor
    manifests: list[dict]

    @property
    def origin(self) -> str:
        """Where the text comes from."""
        return self.manifests[0]["inputs"]["text"]


def case(
    settings: Settings,
    dataset: str = DATASET,
    answer_format: str = "statement",
    sae: str = "",
    layer: int = -1,
) -> Case:
    """A case from what a notebook is given; the autoencoder defaults to the model's, the layer to the autoencoder's.

    Raises
    ------
    SteerkitError
        An unknown format, data set or autoencoder; an autoencoder of another width or layer than asked for.
    """
    from companion.outline import outline

    check_format(answer_format)
    name = sae or default_sae(settings.model)
    opened = open_sae(name, outline(settings.model).width, None if layer < 0 else layer)
    if opened.layer is None:
        raise SteerkitError(
            "the layer of this autoencoder, which its file does not say",
            "none",
            done="Nothing was computed.",
            next_step="give it as layer=..., the block whose output it reads.",
        )
    for part in CAA_PARTS.get(dataset, (dataset,)):
        jobs.dataset_of(part, settings.source)
    return Case(settings, dataset, answer_format, name, opened.layer)


def contrast(case: Case) -> Contrast:
    """Activations at the answers of the training examples of a case.

    Raises
    ------
    SteerkitError
        A data set or a model that cannot be had.
    """
    from companion.mayne import runs as mayne_runs

    table = store.table(
        f"mayne-answers-{_stem(case)}", inputs_of(case, "answers"), lambda: mayne_runs.answers(case)
    )
    means = table["part"] == "mean"
    whole, parts = (
        [mayne_runs.tensor(side) for _, side in table[rows].groupby("side", sort=False)]
        for rows in (means, ~means)
    )
    groups = tuple(table.loc[means & (table["side"] == "positive"), "group"].tolist())
    parts = [part.unflatten(0, (len(groups), -1)) for part in parts]
    return Contrast(*whole, *parts, groups, table.attrs["manifest"])


def plain(case: Case, tokens: int = -1, path: str = "") -> Plain:
    """Activations on plain text after the case's block, the first position of every window left out.

    Parameters
    ----------
    tokens : how many; -1: a few hundred for the tiny models, the paper's 200,000 for Gemma-2-2B, 4,000 for others
    path : a text file, instead of the texts that are there
    """
    from companion.mayne import runs as mayne_runs

    count = tokens if tokens > 0 else _usual_tokens(case)
    found = []
    for what, size in (("norms", count), ("values", min(count, VALUES))):
        text = plain_text(size, case.dataset, path, case.settings.seed)
        about = inputs_of(case, what) | ANY_EXAMPLES
        about |= {"text": text.origin, "text_sha256": text.sha256, "tokens": size}
        compute = partial(mayne_runs.plain, case, text, size, what)
        found.append(store.table(f"mayne-{what}", about, compute))
    norms, values = found
    return Plain(
        norms["norm"].to_numpy(), mayne_runs.tensor(values), [part.attrs["manifest"] for part in found]
    )


def steered(case: Case, vectors: Vectors) -> pd.DataFrame:
    """The GRID table of the test examples under some vectors [v, 1, d], at the multipliers of resampled vectors."""
    from companion.mayne import runs as mayne_runs

    digest = hashlib.sha256(vectors.values.contiguous().numpy().tobytes()).hexdigest()
    settings = case.settings
    about = inputs_of(case, "steered") | {
        "vectors": list(vectors.names),
        "values_sha256": digest,
        "multipliers": settings.resample_multipliers,
        "engine": settings.engine,
        "fidelity": settings.fidelity if case.format == "letter" else None,
    }
    return store.table(f"mayne-steered-{_stem(case)}", about, lambda: mayne_runs.steered(case, vectors))


def example_groups(case: Case, example_ids: Sequence[str]) -> list[int]:
    """Group of each test example: two items of one pair are not independent."""
    name = CAA_PARTS.get(case.dataset, (case.dataset,))[-1]
    return jobs.groups_of(jobs.dataset_of(name, case.settings.source), example_ids)


def sweep_settings(settings: Settings, step: int = -1, train: int = -1, test: int = -1) -> Settings:
    """Settings whose layer sweep is on their own data sets, with another step or size; -1 leaves the profile's."""
    sweep = replace(settings.sweep, datasets=settings.datasets)
    if step > 0:
        sweep = replace(sweep, step=dict.fromkeys(sweep.step, step))
    sizes = {name: value for name, value in (("train", train), ("test", test)) if value > 0}
    return replace(settings, sweep=replace(sweep, **sizes))


def _usual_tokens(case: Case) -> int:
    if case.settings.model.startswith("tiny"):
        return 400
    return 200_000 if case.sae_name in SCOPE_NAMES else 4_000


def _stem(case: Case) -> str:
    return f"{Path(case.dataset).stem}-{case.format}"


@cache
def _code(names: tuple[str, ...]) -> str:
    return syntax_hash(store.ROOT / name for name in names)


def inputs_of(case: Case, what: str, code: tuple[str, ...] = CODE) -> dict[str, Any]:
    """Everything that decides one table; `code` are the modules of this half that compute it."""
    parts = CAA_PARTS.get(case.dataset, (case.dataset,))
    about = jobs.inputs(replace(case, dataset=parts[0]).job)
    hashes = [jobs.dataset_of(part, case.settings.source).sha256 for part in parts]
    kept = {name: about[name] for name in KEPT_INPUTS}
    return kept | {
        "dataset": case.dataset,
        "data_sha256": " ".join(hashes),
        "what": what,
        "mayne_code": _code(code),
    }
