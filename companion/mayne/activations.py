"""What Mayne et al. 2024 (arXiv 2411.08790) look at: activations of answers and of plain text, and the scores of a
model that is steered with what a decomposition leaves of a vector. (settings, data set, format, autoencoder -> case ->
contrast, plain, steered)

Everything is read from the residual stream after one block, the autoencoder's, and kept under a key. In `letter` the
answer is the letter token. In `statement` it is the completion: its mean over tokens makes the steering vector, as in
extraction, and some of its tokens stand for it wherever an autoencoder reads, because the mean of many tokens is an
input it never met.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from companion import store
from companion.code import syntax_hash
from companion.data import ask
from companion.data.datasets import CAA_PARTS
from companion.data.plain_text import SKIP, plain_text, windows
from companion.data.splits import groups_of
from companion.models import model_of
from companion.outline import outline
from companion.places import ROOT
from companion.profiles import Settings
from companion.saes import SCOPE_NAMES, default_sae, open_sae
from companion.tan import jobs
from companion.tan.jobs import Job
from companion.templates import prompter
from steerkit import Example, Model, Vectors, evaluate, traces
from steerkit.errors import need, one_of
from steerkit.extraction import answers
from steerkit.formats import FORMATS
from steerkit.remote import JOB_TOKENS, run
from steerkit.sae import Sae

DATASET = "corrigible-neutral-HHH"
# Table 1: the paper's vector, and six whose names exist among the bundled and the papers' data sets.
SEVEN = (DATASET, "myopic-reward", "power-seeking-inclination", "survival-instinct")
SEVEN += ("self-awareness-general-ai", "narcissism", "openness")
ANSWER_TOKENS = 16  # of each completion in `statement`, see `Contrast`
VALUES = 4096  # activations of plain text that are kept whole; norms are kept of all tokens
MULTIPLIERS = (-1.5, 0.0, 1.5)  # at which vectors steer test examples
TOGETHER = 16  # windows of plain text in one forward
# What turns activations into the numbers of these tables, beside `store.NUMERIC_CODE`, which every key holds.
CODE = ("companion/mayne/activations.py",)
# Inputs of a grid that activations do not depend on.
OF_SCORES = ("stage", "engine", "fidelity", "multipliers")
# Plain text has no answers: one table serves every format and split.
ANY_EXAMPLES = {"format": "", "split": "none", "limits": (0, 0), "counterbalanced": False}
ANY_EXAMPLES |= {"balanced": None}


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
    def fidelity(self) -> str | None:
        """How letters are scored; no other format has a choice."""
        return self.settings.fidelity if self.format == "letter" else None

    @property
    def sae(self) -> Sae:
        """The autoencoder; kept."""
        return open_sae(self.sae_name, None, self.layer)

    @property
    def parts(self) -> tuple[str, ...]:
        """The data sets of training and test, or the one that is split."""
        return CAA_PARTS.get(self.dataset, (self.dataset,))

    @property
    def stem(self) -> str:
        """How its tables are called."""
        return f"{Path(self.dataset).stem}-{self.format}"

    def of(self, dataset: str) -> Case:
        """The same for another data set."""
        return replace(self, dataset=dataset)


@dataclass(frozen=True)
class Contrast:
    """Activations of the training examples: of the matching answers (side 0) and of the others (side 1).

    `means` over the tokens of each answer, float32 [p, 2, d]; `parts`, m evenly spaced tokens of each [p, 2, m, d], the
    letter alone in `letter`; `groups`, a number an example: examples of one group are resampled together.
    """

    means: torch.Tensor
    parts: torch.Tensor
    groups: np.ndarray
    manifest: dict[str, Any]

    @property
    def vector(self) -> torch.Tensor:
        """The steering vector [d]: the mean difference."""
        return (self.means[:, 0] - self.means[:, 1]).mean(0)

    @property
    def positive(self) -> torch.Tensor:
        """Tokens of the matching answers, [p m, d]."""
        return self.parts[:, 0].flatten(0, 1)

    @property
    def negative(self) -> torch.Tensor:
        """Tokens of the other answers, [p m, d]."""
        return self.parts[:, 1].flatten(0, 1)

    def resamples(self, count: int, seed: int = 0) -> list[Contrast]:
        """The same from training groups drawn with replacement."""
        rng = np.random.default_rng(seed)
        members = [np.flatnonzero(self.groups == label) for label in np.unique(self.groups)]
        drawn = (rng.integers(len(members), size=len(members)) for _ in range(count))
        picks = (np.concatenate([members[i] for i in some]) for some in drawn)
        return [replace(self, means=self.means[i], parts=self.parts[i], groups=self.groups[i]) for i in picks]


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
    """A case from what a notebook is given; the autoencoder defaults to the model's, the layer to the autoencoder's."""
    one_of("an answer format", answer_format, FORMATS)
    name = sae or default_sae(settings.model)
    opened = open_sae(name, outline(settings.model).width, None if layer < 0 else layer)
    expected, done = "the layer of this autoencoder, which its file does not say", "Nothing was computed."
    next_step = "give it as layer=..., the block whose output it reads."
    need(opened.layer is not None, expected, "none", next_step, done)
    found = Case(settings, dataset, answer_format, name, opened.layer)
    for part in found.parts:
        jobs.dataset_of(part, settings.source)
    return found


def kept(
    case: Case,
    what: str,
    make: Callable,
    about: dict,
    engine: str = "trace",
    code: tuple = CODE,
    name: str = "",
) -> pd.DataFrame:
    """A table of a case, read, or made where there is none, with its model unless the engine is "none".

    `about` decides it beside what `inputs_of` says, `code` are the modules of this half that compute it.
    """

    def compute() -> pd.DataFrame:
        model = None if engine == "none" else model_of(case.settings.model, case.settings.remote)
        table = make(model)
        table.attrs = {"engine": engine, **({"source": model.source} if model else {}), **table.attrs}
        return table

    return store.table(f"mayne-{name or f'{what}-{case.stem}'}", inputs_of(case, what, code) | about, compute)


def contrast(case: Case) -> Contrast:
    """Activations at the answers of the training examples of a case."""
    table = kept(case, "answers", partial(_answers, case), {})
    size = table["part"].nunique()
    values = tensor(table).unflatten(0, (-1, 2, size))  # [p, side, mean and parts, d]
    groups = table["group"].to_numpy()[:: 2 * size]
    return Contrast(values[:, :, 0], values[:, :, 1:], groups, table.attrs["manifest"])


def plain(case: Case, tokens: int = -1, path: str = "") -> Plain:
    """Activations on plain text (or on the file `path`) after the case's block, without the first position of a window.

    Of -1 `tokens`: a few hundred for the tiny models, the paper's 200,000 for Gemma-2-2B, 4,000 for others.
    """
    usual = 400 if case.settings.model.startswith("tiny") else 4_000
    count = tokens if tokens > 0 else 200_000 if case.sae_name in SCOPE_NAMES else usual
    table = _plain(case, "values", min(count, VALUES), path)
    values, manifests = tensor(table), [table.attrs["manifest"]]
    if count <= VALUES:
        return Plain(values.norm(dim=-1).numpy(), values, manifests)
    norms = _plain(case, "norms", count, path)
    return Plain(norms["norm"].to_numpy(), values, [norms.attrs["manifest"], *manifests])


def steered(case: Case, vectors: Mapping[str, torch.Tensor]) -> pd.DataFrame:
    """The GRID table of the test examples under some vectors [d], at `MULTIPLIERS`."""
    values, settings = torch.stack(list(vectors.values())).float().contiguous(), case.settings
    digest = hashlib.sha256(values.numpy().tobytes()).hexdigest()
    about = {"vectors": list(vectors), "values_sha256": digest, "multipliers": MULTIPLIERS}
    about |= {"engine": settings.engine, "fidelity": case.fidelity}
    stacked = Vectors(tuple(vectors), (case.layer,), values[:, None])

    def compute(model: Model) -> pd.DataFrame:
        options = {"fidelity": settings.fidelity, "engine": settings.engine}
        found = evaluate(model, examples(case, model)[1], stacked, MULTIPLIERS, **options)
        table = found.table(case.dataset)
        table.attrs = {"engine": found.engine, "reason": found.reason}
        return table

    return kept(case, "steered", compute, about)


def gradients(case: Case) -> pd.DataFrame:
    """Of each test example the gradient of its propensity: a row an id, its product with a vector is the slope at zero."""
    from steerkit import gradient

    def compute(model: Model) -> pd.DataFrame:
        asked = examples(case, model)[1]
        every = gradient.gradients(model, asked, [case.layer], fidelity=case.settings.fidelity)
        ids = pd.DataFrame({"example_id": [one.id for one in asked]})
        return pd.concat([ids, frame(every.at(case.layer))], axis=1)

    about = {"fidelity": case.fidelity}
    return kept(case, "gradients", compute, about, "gradient").set_index("example_id")


def example_groups(case: Case, example_ids: Sequence[str], part: int = -1) -> list[int]:
    """Group of each test example, or of each training example (part 0): two items of one pair are not independent."""
    return groups_of(jobs.dataset_of(case.parts[part], case.settings.source), example_ids)


def inputs_of(case: Case, what: str, code: tuple[str, ...] = CODE) -> dict[str, Any]:
    """Everything that decides one table; `code` are the modules of this half that compute it."""
    about = jobs.inputs(case.of(case.parts[0]).job)
    hashes = [jobs.dataset_of(part, case.settings.source).sha256 for part in case.parts]
    own = {"dataset": case.dataset, "data_sha256": " ".join(hashes), "what": what}
    own["mayne_code"] = syntax_hash(ROOT / name for name in code)
    return {name: value for name, value in about.items() if name not in OF_SCORES} | own


def examples(case: Case, model: Model) -> tuple[list[Example], list[Example]]:
    """Training and test examples; CAA's own parts where the data set is one of them."""
    if case.dataset not in CAA_PARTS:
        return jobs.examples(case.job, model)
    settings, job = case.settings, case.job
    asked, sides = prompter(model.tokenizer, model.template, settings.spelling), []
    for part, limit in zip(case.parts, job.limits, strict=True):
        dataset = jobs.dataset_of(part, settings.source)
        items = range(len(dataset.items))[:limit]
        sides.append(ask.examples_of(asked, dataset, items, case.format, settings.seed, job.counterbalanced))
    return sides[0], sides[1]


def picked(found: torch.Tensor, answer_format: str) -> torch.Tensor:
    """The tokens [m, d] that stand for an answer [tokens, d]: some of a completion, evenly spaced, or the only one."""
    count = ANSWER_TOKENS if answer_format == "statement" else 1
    return found[[(2 * i + 1) * len(found) // (2 * count) for i in range(count)]]


def residuals(
    model: Model, batches: Sequence[list[list[int]]], layer: int, starts: Sequence[int], norms: bool = False
) -> list[torch.Tensor]:
    """Output of a block [b, s - start, d], or its norms, a batch of sequences of one length, on the CPU.

    On a server one job holds batches of `JOB_TOKENS` tokens.
    """
    found, first, tokens = [], 0, 0
    for index, batch in enumerate(batches):
        tokens += len(batch) * len(batch[0])
        if tokens >= JOB_TOKENS or index == len(batches) - 1:
            part = slice(first, index + 1)
            found += run(model, traces.residuals, batches[part], layer, starts[part], norms)
            first, tokens = index + 1, 0
    return found


def _answers(case: Case, model: Model) -> pd.DataFrame:
    """Columns example_id, group, side, part ("mean", or the number of one of `picked`), then the coordinates."""
    train, _ = examples(case, model)
    groups, rows, labels = example_groups(case, [each.id for each in train], 0), [], []
    for example, group, both in zip(train, groups, answers(model, train, case.layer), strict=True):
        for side, found in zip(("positive", "negative"), both, strict=True):
            parts = picked(found, case.format)
            rows += [found.mean(0), *parts]
            labels += [(example.id, group, side, part) for part in ("mean", *map(str, range(len(parts))))]
    named = pd.DataFrame(labels, columns=["example_id", "group", "side", "part"])
    table = pd.concat([named, frame(torch.stack(rows))], axis=1)
    table.attrs = {"train_examples": len(train)}
    return table


def _plain(case: Case, what: str, tokens: int, path: str) -> pd.DataFrame:
    """One row a token: its activation ("values"), or only its norm ("norms")."""
    text = plain_text(tokens, case.dataset, path, case.settings.seed)

    def compute(model: Model) -> pd.DataFrame:
        batches = [batch.tolist() for batch in windows(model, text.text, tokens).split(TOGETHER)]
        found = residuals(model, batches, case.layer, [SKIP] * len(batches), norms=what == "norms")
        rows = torch.cat([part.flatten(0, 1) for part in found])[:tokens]
        return pd.DataFrame({"norm": rows[:, 0].numpy()}) if what == "norms" else frame(rows)

    about = ANY_EXAMPLES | {"text": text.origin, "text_sha256": text.sha256, "tokens": tokens}
    return kept(case, what, compute, about, name=what)


def frame(values: torch.Tensor) -> pd.DataFrame:
    """Activations as a table, one column a coordinate ("0", "1", ...)."""
    return pd.DataFrame({str(i): column for i, column in enumerate(values.numpy().T)})


def tensor(table: pd.DataFrame) -> torch.Tensor:
    """The activations of a table, float32 [n, d]."""
    numbers = [name for name in table.columns if name.isdigit()]
    return torch.from_numpy(table[numbers].to_numpy(dtype="float32").copy())
