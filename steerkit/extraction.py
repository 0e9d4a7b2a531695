"""Steering vectors from contrastive answers: the mean difference of activations, all layers in one pass.

The two answers of an example follow the same prompt, so they are two branches of one sequence: one forward a batch
of examples gives the activations of both answers at every layer. In `letter` the answer is one token (index -2 of
the paper's string, the letter between the brackets); in `statement` it is the completion, and the activation is the
mean over its tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from steerkit import traces, trust
from steerkit.model import Model
from steerkit.prompts import Example
from steerkit.propensity import Branch, Question, Read
from steerkit.remote import run
from steerkit.trust import room
from steerkit.vectors import Vectors, scaled


def extract(
    model: Model,
    examples: Sequence[Example],
    layers: Sequence[int],
    *,
    manifest: dict[str, Any] | None = None,
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Vectors:
    """The steering vector, named "full": the mean over examples of `differences`.

    Parameters
    ----------
    layers : 0-based blocks whose output is read
    manifest : what goes into the vectors' file beside them
    batch_tokens : tokens of one forward, halved and retried when memory runs out; default: see `steerkit.trust.room`
    progress : called with the token-passes just done
    """
    # A running sum: any number of examples fits.
    total = torch.zeros(1, len(layers), model.width, dtype=torch.float64)
    for _, values in _parts(model, examples, layers, batch_tokens, progress, total=True):
        total += values[:, 0]
    return mean_difference((total / len(examples)).float(), layers, manifest)


def differences(
    model: Model,
    examples: Sequence[Example],
    layers: Sequence[int],
    *,
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """Activation of the matching answer minus that of the other one, [p, l, d] float32 on the CPU.

    Parameters are those of `extract`; for whoever wants to average them in ways of his own (`resampled`).
    """
    found = torch.zeros(len(examples), len(layers), model.width)
    for part, values in _parts(model, examples, layers, batch_tokens, progress):
        found[part] = values[:, 0]
    return found


def answers(model: Model, examples: Sequence[Example], layer: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Activations [tokens, d] of the matching and of the other answer of each example, float32 on the CPU.

    For whoever looks at single tokens; the difference of the two means is what `differences` gives.
    """
    found: dict[int, torch.Tensor] = {}
    for part, values in _parts(model, examples, [layer], apart=True):
        found |= dict(zip(part, values[:, :, 0], strict=True))
    lengths = [(len(one.matching), len(one.not_matching)) for one in examples]
    # Shorter answers leave zeros behind them.
    return [found[i][: sum(each)].split(each) for i, each in enumerate(lengths)]


def _parts(
    model: Model,
    examples: Sequence[Example],
    layers: Sequence[int],
    tokens: int | None = None,
    progress: Any = None,
    total: bool = False,
    apart: bool = False,
) -> trust.Parts:
    """What is asked of some examples at a time with their indices; a job on a server holds several forwards."""
    trust.check_examples(model, examples)
    trust.check_layers(model, layers)
    questions, tokens = [_contrast(example, apart) for example in examples], tokens or room(model)
    trace = traces.contrasts if _branches_work(model, questions, layers) else traces.contrasts_apart

    def work(parts: Sequence[Sequence[Question]], most: int) -> torch.Tensor:
        return run(model, trace, parts, layers, total, most)[0]

    for part, values in trust.in_jobs(model, questions, 1, tokens, work, total):
        yield part, values
        if progress is not None:
            progress(sum(contrast_length(examples[i]) for i in part))


def contrast_length(example: Example) -> int:
    """Tokens of one training example: the shared prompt and both answers."""
    return len(example.prompt) + len(example.lead) + len(example.matching) + len(example.not_matching)


def _contrast(example: Example, apart: bool = False) -> Question:
    """The answers as branches, every token of which is read: into one sum, a mean difference, or `apart`."""
    branches, before = [], 0
    for sign, answer in ((1.0, example.matching), (-1.0, example.not_matching)):
        share = sign / len(answer)
        read = [(before + i, 1.0) if apart else (0, share) for i in range(len(answer))]
        branches.append(Branch(answer, tuple(Read(i, answer[i], *each) for i, each in enumerate(read))))
        before += len(answer)
    return Question(example.id, example.prompt + example.lead, tuple(branches), "logit")


def _branches_work(model: Model, questions: Sequence[Question], layers: Sequence[int]) -> bool:
    """Whether two answers in one sequence give what two sequences give, at the last layer of the longest example."""
    one, last = max(questions, key=trust.reach), max(layers)
    slow, fast = (
        lambda work=work: run(model, work, [[one]], [last], False, trust.SEQUENCE_TOKENS)[0]
        for work in (traces.contrasts_apart, traces.contrasts)
    )
    instead = "reading each answer in a forward of its own"
    return trust.branches_work(model, ("extract", last), one, slow, fast, instead)


def mean_difference(found: torch.Tensor, layers: Sequence[int], manifest: dict | None = None) -> Vectors:
    """The steering vector, named "full": the mean over training examples of their differences [p, l, d].

    No centring and no unit norm (Tan et al. 2024, section 3; Rimsky et al. 2023).
    """
    return Vectors(("full",), tuple(layers), found.mean(0, keepdim=True), manifest or {})


def resampled(
    found: torch.Tensor, layers: Sequence[int], count: int, seed: int, *, groups: Sequence[int] | None = None
) -> Vectors:
    """Vectors "resample-00".. from differences [p, l, d] drawn with replacement: the noise of extraction.

    `groups` has a label an example; examples of one group are drawn together. The two items of a minimal pair have
    opposite letters, so that drawing them singly would bring the letter's direction back into the vector.
    """
    member, generator = _members(found, groups), torch.Generator().manual_seed(seed)
    draws = torch.randint(len(member), (count, len(member)), generator=generator)
    times = torch.stack([torch.bincount(draw, minlength=len(member)) for draw in draws]) if count else draws
    weights = times.float() @ member
    return _weighted(found, layers, weights / weights.sum(1, keepdim=True), "resample")


def shuffled(
    found: torch.Tensor, layers: Sequence[int], count: int, seed: int, *, groups: Sequence[int] | None = None
) -> Vectors:
    """Placebos "shuffled-00".. from the same differences [p, l, d] with random signs: what the labels are worth.

    Which answer matches is drawn anew for every group of training examples (for every example without `groups`), and
    the mean difference is scaled to the norm of the steering vector, layer by layer. If the labels meant nothing, the
    vector would be one of these: its rank among `count` of them is a permutation test at 1 / (count + 1).
    """
    member, generator = _members(found, groups), torch.Generator().manual_seed(seed)
    signs = 2.0 * torch.randint(2, (count, len(member)), generator=generator) - 1
    drawn = _weighted(found, layers, signs @ member / len(found), "shuffled")
    return scaled(drawn, mean_difference(found, layers))


def _members(found: torch.Tensor, groups: Sequence[int] | None) -> torch.Tensor:
    """Which examples a group has, [groups, p] of 0 and 1."""
    labels = torch.tensor(range(len(found)) if groups is None else groups)
    return (labels == labels.unique()[:, None]).float()


def _weighted(found: torch.Tensor, layers: Sequence[int], weights: torch.Tensor, name: str) -> Vectors:
    """Vectors `name`-00.. that are sums of differences [p, l, d] with weights [v, p]."""
    values = torch.einsum("vp,pld->vld", weights.to(found.dtype), found)
    return Vectors(tuple(f"{name}-{i:02d}" for i in range(len(weights))), tuple(layers), values)
