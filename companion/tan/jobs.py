"""One job: a data set, a format, a stage; the items it takes, the examples they make, and all that decides its table.

The stages are those of `STAGES`. Over prompt settings (section 5) a vector is extracted under each setting, and one more is
their mean; a model without a system prompt has no SYS settings, and the table then holds the others, and says so.
`companion.tan.work` runs a job.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

from companion.data.ask import examples_of
from companion.data.datasets import SUFFIXES, Dataset, load_dataset, personas
from companion.data.forms import first_label
from companion.data.splits import Split, limit, make_split
from companion.models import dtype_of, weights_of
from companion.profiles import Settings, Shift, Sweep
from companion.tan import authors, leak, products, unigram
from companion.tan.placebo import OTHERS
from companion.templates import SETTINGS, TEMPLATES, Setting, prompter
from steerkit.errors import need
from steerkit.formats import FORMATS
from steerkit.model import Model
from steerkit.prompts import Example

Stage = Literal["sweep", "grid", "placebo", "shift", "unlabelled", "authors", "products", "unigram", "leak"]
Progress = Callable[[int], None] | None  # called with token-passes done
MEAN = "MEAN"  # the mean of the vectors of all settings
SCORES = ("matching", "not_matching")  # of both answers, what a GRID table has


@dataclass(frozen=True)
class Kind:
    """What a stage takes, and what is in its tables.

    `numbers` are the columns that are computed; `cell`, those that tell the rows of an example apart; `part` of the
    settings, its sizes, multipliers and data sets; `form`, the only answer format of a stage that takes items of its own,
    the same to train and to test; `usual`, whether every profile runs it.
    """

    numbers: tuple[str, ...] = SCORES
    cell: tuple[str, ...] = ("vector", "layer", "multiplier")
    part: str = ""
    form: str = ""
    usual: bool = False

    @property
    def drawn(self) -> bool:
        """Whether its items are pairs of texts, drawn by itself, and no items of a split."""
        return self.form == "statement"


# In the order in which they run: the sweep chooses the layer of all others. Authors are those of one concept, products
# those of all pairs of a set; unigram shifts single tokens, and leak tests items on a vector that they are part of.
STAGES: dict[Stage, Kind] = {
    "sweep": Kind(part="sweep", usual=True),
    "grid": Kind(usual=True),
    "placebo": Kind(("slope",), ("vector",), usual=True),
    "shift": Kind(cell=("vector", "layer", "multiplier", "setting"), part="shift", usual=True),
    "unlabelled": Kind(("slope",), ("vector", "setting", "labels"), "shift"),
    "authors": Kind(("slope", "norm"), ("author", "by", "by_id"), form="statement"),
    "products": Kind((*products.MATRICES, *SCORES), ("by_id",), form="statement"),
    "unigram": Kind((*unigram.NUMBERS,), (), form="statement"),
    "leak": Kind(form="letter"),
}


@dataclass(frozen=True)
class Job:
    """One artefact to come; `layer` is None in the sweep, which steers many blocks, and until one is chosen."""

    settings: Settings
    stage: Stage
    dataset: str
    format: str
    layer: int | None = None

    @property
    def name(self) -> str:
        """File name without key; of a user's own file only its stem."""
        name = reduce(str.removesuffix, SUFFIXES, Path(self.dataset).name)
        return f"{self.stage}-{name}-{self.format}"

    @property
    def part(self) -> Settings | Sweep | Shift:
        """The part of the settings that has the sizes and multipliers of this stage."""
        part = STAGES[self.stage].part
        return getattr(self.settings, part) if part else self.settings

    @property
    def split(self) -> str:
        """Name of the split: the sweep has its own, so that the layer is not chosen on test items."""
        return {"sweep": "sweep", "leak": leak.SPLIT}.get(self.stage, self.settings.split)

    @property
    def limits(self) -> tuple[int | None, int | None]:
        """Most training and test groups: one number, or one for each format (the least for one that is not named)."""
        if self.stage == "leak":
            return leak.SIZES
        sizes = (self.part.train, self.part.test)
        sizes = [size if isinstance(size, dict) else {self.format: size} for size in sizes]
        return tuple(size.get(self.format, min(size.values())) for size in sizes)

    @property
    def multipliers(self) -> tuple[float, ...]:
        """One list, or one for each format (the shortest for one that is not named)."""
        if self.stage == "leak":
            return leak.MULTIPLIERS
        given = self.part.multipliers
        return given.get(self.format, min(given.values(), key=len)) if isinstance(given, dict) else given

    @property
    def counterbalanced(self) -> bool:
        """Whether each item is asked in both forms: in the main grid and its placebos, and a statement has one."""
        both = self.settings.counterbalanced and FORMATS[self.format].biased
        return both and self.stage in ("grid", "placebo")


def datasets_of(settings: Settings, stage: Stage) -> Sequence[str]:
    """The data sets of a stage: sweep and shift may have their own, and few suit those that take items of their own."""
    if stage in ("authors", "leak"):
        return (authors if stage == "authors" else leak).among(settings.datasets)
    part = STAGES[stage].part
    return (getattr(settings, part).datasets if part else ()) or settings.datasets


@lru_cache(maxsize=64)
def dataset_of(name: str, source: str) -> Dataset:
    """A data set, kept."""
    return load_dataset(name, source=source)


def inputs(job: Job) -> dict[str, Any]:
    """Everything that decides the numbers of one artefact; nothing that does not."""
    settings = job.settings
    about = {name: getattr(settings, name) for name in ("model", "source", "seed", "spelling", "engine")}
    own = ("dataset", "format", "stage", "split", "limits", "counterbalanced", "multipliers")
    about |= {name: getattr(job, name) for name in own}
    about |= {
        "weights": weights_of(settings.model, settings.remote),
        "dtype": dtype_of(settings.model, settings.remote),
        "data_sha256": dataset_of(job.dataset, settings.source).sha256,
        "fidelity": settings.fidelity if job.format == "letter" else None,
    }
    if settings.balanced and not STAGES[job.stage].form:
        about["balanced"] = True
    if job.stage == "sweep":
        return about | {"step": job.part.every(job.format), "train_template": job.part.template}
    about["layer"] = job.layer
    if job.stage == "authors":
        kind = authors.of_kind(job.dataset, datasets_of(settings, "authors"))
        return about | {"texts": {name: authors.hashes(name) for name in kind}, "pairs": authors.PAIRS}
    if job.stage in ("products", "unigram"):
        return about | {"pairs": products.PAIRS}
    if job.stage == "leak":
        items, halves = dataset_of(job.dataset, settings.source).items, halves_of(job)
        return about | {"halves": {half: [items[i].id for i in part] for half, part in halves.items()}}
    if job.stage in ("shift", "unlabelled"):
        return about | {"personas": personas(job.dataset, settings.source)}
    return about | ({"others": others_of(job)} if job.stage == "placebo" else {})


def halves_of(job: Job) -> dict[str, list[int]]:
    """The items of the stage `leak`, by what the released split did with their questions."""
    return leak.halves(dataset_of(job.dataset, job.settings.source))


def items_a_pair(job: Job) -> int:
    """Groups of items that one of the sizes of a job takes: of statements without pair numbers it counts pairs."""
    items = dataset_of(job.dataset, job.settings.source).items
    single = not FORMATS[job.format].biased and items[0].kind == "persona" and items[0].pair is None
    return 2 if single else 1


def split_of(job: Job) -> Split:
    """The items of a job; of a balanced profile as many of each word and letter as of another."""
    dataset, labels = dataset_of(job.dataset, job.settings.source), None
    sizes = (size and size * items_a_pair(job) for size in job.limits)
    if job.settings.balanced:
        letters = FORMATS[job.format].labels
        labels = [
            (one.positive_answer, first_label(one, letters) if letters else "") for one in dataset.items
        ]
    return limit(make_split(dataset, job.split, job.settings.seed), *sizes, labels)


def examples(job: Job, model: Model, setting: Setting = "BASE") -> tuple[list[Example], list[Example]]:
    """Tokenised training and test examples of a job in one prompt setting; the same where a stage has its own items."""
    form = STAGES[job.stage].form
    expected = f"the format {form} for the stage {job.stage}"
    need(form in ("", job.format), expected, job.format, "leave the format out.")
    if job.stage == "authors":
        every = [one for each in examples_by_author(job, job.dataset, model).values() for one in each]
        return every, every
    if job.stage in ("products", "unigram"):
        every = _asked(job, model, products.pairs_of(job.dataset, job.settings.source, job.settings.seed))
        return every, every
    settings, dataset = job.settings, dataset_of(job.dataset, job.settings.source)
    persona = None if setting == "BASE" else personas(job.dataset, settings.source)
    shown = asked = prompter(model.tokenizer, model.template, settings.spelling, setting, persona)
    if job.stage == "sweep" and settings.sweep.template:
        shown = prompter(model.tokenizer, TEMPLATES[settings.sweep.template], settings.spelling)
    how = job.format, settings.seed, job.counterbalanced
    if job.stage == "leak":
        every = examples_of(asked, dataset, [i for half in halves_of(job).values() for i in half], *how)
        return every, every
    split = split_of(job)
    return examples_of(shown, dataset, split.train, *how), examples_of(asked, dataset, split.test, *how)


def examples_by_author(job: Job, concept: str, model: Model) -> dict[str, list[Example]]:
    """Tokenised pairs of a concept by author."""
    found = authors.pairs_of(concept, job.settings.seed)
    return {author: _asked(job, model, pairs) for author, pairs in found.items()}


def _asked(job: Job, model: Model, pairs: Sequence[authors.Pair]) -> list[Example]:
    """Pairs of texts as examples."""
    asked, ask = prompter(model.tokenizer, model.template, job.settings.spelling), FORMATS[job.format].ask
    return [ask(asked, *pair) for pair in pairs]


def settings_of(model: Model) -> tuple[str, ...]:
    """The prompt settings for which this model has a place."""
    return tuple(s for s in SETTINGS if model.template.has_system or not s.startswith("SYS"))


def seed_of(job: Job) -> int:
    """Another seed for every data set and format: placebos that all sets share would be one draw and not forty."""
    return crc32(f"{job.settings.seed} {job.dataset} {job.format}".encode())


def others_of(job: Job) -> list[str]:
    """The data sets that follow this one in the run, or in a list of the profile's own: their vectors are placebos."""
    listed = job.settings.others or job.settings.datasets
    start = listed.index(job.dataset) + 1 if job.dataset in listed else 0
    following = [*listed[start:], *listed[:start]]
    return [name for name in following if name != job.dataset][:OTHERS]


def job_layers(job: Job, n_layers: int) -> list[int]:
    """Blocks a job steers."""
    if job.stage == "sweep":
        return list(range(0, n_layers, job.part.every(job.format)))
    expected = f"a layer from 0 to {n_layers - 1} of {job.settings.model}"
    need(0 <= job.layer < n_layers, expected, f"layer {job.layer}", "choose one of them.")
    return [job.layer]
