"""What runs where the model is: on this machine, or on a server that has never heard of steerkit.

nnsight sends these functions as source text, with the names they read, and a server compiles them again. What survives
that: plain functions of tensors, numbers and envoys, with torch and nnsight imported above. What does not, and must
stay out of this file and of `steerkit.layout`: dataclasses, decorators, imports inside a function, and anything
of this package that is no plain function. `steerkit.remote.run` calls them, here or there.

Every function begins with `site`: the envoys `lm`, `layers` and `head`; `windows` (how far each layer sees), `scale` and
`cap` (of the logits) of the configuration; `dtype` of the weights and `width` of the residual stream; and
`scores`, the precision of results.
"""

from __future__ import annotations

import importlib.metadata
import platform
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import nnsight
import torch

from steerkit.layout import layout, length, mask, rows_of
from steerkit.model import windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steerkit.model import Model

Site = Batch = SimpleNamespace  # what `site_of` and `layout` make
HEAD_ROWS = 512  # positions whose full logits exist at the same time
TRIED = 16  # tokens of a text on which it is tried whether a model goes on from a block
BROKEN = -1  # stands for the token that logits which are not finite would choose
SHARE_FROM = 2  # lowest steered block from which a run of its own for the blocks below pays
STAGES = 6  # into how many parts the blocks of a sweep are cut, each with the conditions that are steered below its end


def site_of(model: Model) -> SimpleNamespace:
    """What every function below is given first; made here, sent as it is."""
    config = model.config
    scores = torch.float32 if model.remote else torch.float64  # what travels back is half as large
    text = config.get_text_config()
    cap = getattr(text, "final_logit_softcapping", None)
    scale = getattr(text, "logit_scale", None) or 1.0
    if text.model_type.startswith("granite"):  # others mean something else by that name
        scale = 1.0 / text.logits_scaling
    about = {name: getattr(model, name) for name in ("lm", "layers", "head", "dtype", "width")}
    return SimpleNamespace(**about, windows=windows(config), scale=scale, cap=cap, scores=scores)


def describe(site: Site) -> dict[str, str]:
    """Precision, device and versions of the place where this runs."""
    [given] = outputs(site, {"input_ids": torch.tensor([[0]])}, {}, [0])
    hidden = stream(given)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "nnsight")}
    about = {"dtype": str(hidden.dtype)[len("torch.") :], "device": hidden.device.type}
    return about | {"threads": str(torch.get_num_threads()), "python": platform.python_version()} | versions


def outputs(
    site: Site, inputs: dict, masks: dict, wanted: Sequence[int], sums: tuple | None = None
) -> list[torch.Tensor]:
    """What the blocks `wanted` give, or the `sums` that a batch and its questions ask for, float32 on the CPU."""
    with torch.no_grad(), site.lm.trace(**inputs, use_cache=False) as tracer:
        found = nnsight.save({})
        for index in range(max(wanted) + 1):
            narrow(site.layers[index], masks.get(index))
            if index in wanted:
                given = site.layers[index].output
                found[index] = given if sums is None else summed(stream(given), *sums)
        stop(site, tracer)
    return [found[index] for index in wanted]


def stream(output: Any) -> torch.Tensor:
    """The residual stream [r, s, d] of what a block gives; some families give attention weights with it."""
    return output[0] if isinstance(output, tuple | list) else output


def instead(output: Any, hidden: torch.Tensor) -> Any:
    """What a block gives with another residual stream."""
    return (hidden, *output[1:]) if isinstance(output, tuple | list) else hidden


def summed(hidden: torch.Tensor, batch: Batch, count: int, sides: int) -> torch.Tensor:
    """Weighted sums over the reads of each side of `count` questions, [p, sides, d] float32 on the CPU."""
    question, row, index, _, side, _ = batch.reads.T
    read = hidden[row.to(hidden.device), index.to(hidden.device)].float().cpu()
    found = torch.zeros(count, sides, read.shape[1])
    return found.index_put((question, side), read * batch.weights[:, None].float(), accumulate=True)


def stop(site: Site, tracer: Any) -> None:
    """End a trace before the blocks that nobody reads; not in NDIF's sandbox, which shows no weights, and where a trace
    that ends early takes the rest of the job with it (NDIF 0.1.2: a broken pipe)."""
    if not site.head._module.weight.is_meta:
        tracer.stop()


def tree(site: Site, parts: Sequence, vectors: dict, cells: Sequence, most: int) -> list[torch.Tensor]:
    """Scores [p, 2 sides, 1 + cells] of the questions of all parts, one after the other; see `steerkit.grid`.

    A part is one forward, in rows of at most `most` tokens; conditions of a question that do not fit in a row go into
    further forwards, which repeat the prefix.
    """
    scores, depths = [], [-1, *(cell[1] for cell in cells)]
    for questions in parts:
        longest = max(questions, key=lambda q: length(q, 1))
        start, period = len(longest.prefix), length(longest, 1) - len(longest.prefix)
        step = max(1, (most - start) // period)
        found = torch.zeros(len(questions), 2, len(depths), dtype=torch.float64)
        for first in range(0, len(depths), step):
            some = range(first, min(first + step, len(depths)))
            rows = rows_of(questions, len(some), most)
            stages = [(end, layout(questions, rows, now)) for end, now in stages_of(site, some, depths)]
            values = tree_batch(site, stages, vectors, [(0, 0, 0.0), *cells], questions[0].scale)
            question, _, _, _, side, condition = stages[-1][1].reads.T
            found.index_put_((question, side, condition), values * stages[-1][1].weights, accumulate=True)
        scores.append(found)
    return [torch.cat(scores).to(site.scores)]


def stages_of(site: Site, some: Sequence[int], depths: Sequence[int]) -> list[tuple[int, list[int]]]:
    """How a forward widens on its way up: the last block of each stage, and the conditions that are laid out in it.

    `depths` are the steered blocks of all conditions. Up to its block a condition is the unsteered run and needs no
    tokens of its own. The last stage ends behind the last block. Where no trace can be stopped there are two at most.
    """
    blocks, most = len(site.layers), 2 if site.head._module.weight.is_meta else STAGES
    steered = sorted({depths[each] for each in some} - {-1})
    size = -(-len(steered) // (most - 1)) or 1
    begins = [depth for depth in steered[::size] if depth >= SHARE_FROM]
    ends = [*begins, blocks]
    found = [(end, [0, *(each for each in some if 0 <= depths[each] < end)]) for end in ends]
    return [*found[:-1], (blocks, list(some))]


def tree_batch(site: Site, stages: Sequence, vectors: dict, cells: Sequence, scale: str) -> torch.Tensor:
    """The value of every read of the last of some stages, [n] float64. Each stage, a last block and a batch, goes on
    with the residual stream that the one before it ended with."""
    given, below = None, (-1, None)
    for end, batch in stages:
        edits = edits_of(batch, vectors, cells, site.dtype)
        if given is not None:
            hidden = stream(given)
            hidden = hidden[torch.arange(len(hidden))[:, None], places(below[1], batch)]
            if below[0] in edits:
                add(hidden, edits[below[0]])
            given = instead(given, hidden)
        given = raised(site, batch, edits, (below[0], given), end, scale)
        below = end, batch
    return given.double().cpu()


def places(below: Batch, batch: Batch) -> torch.Tensor:
    """Where the tokens [r, s] of a batch stand in the same rows of fewer conditions; those of new ones, unsteered."""
    known = torch.isin(batch.conditions, below.conditions)
    count = int(below.conditions.max()) + 2
    conditions = torch.where(known, batch.conditions, 0)
    keys, wanted = below.singles * count + below.conditions + 1, batch.singles * count + conditions + 1
    index = torch.arange(keys.shape[1]).expand_as(keys)
    found = torch.full((len(keys), int(keys.max()) + 1), keys.shape[1])
    # Padding has the key of a first token, which comes before it.
    return found.scatter_reduce(1, keys, index, "amin").gather(1, wanted)


def raised(site: Site, batch: Batch, edits: dict, below: tuple, end: int, scale: str) -> Any:
    """What block `end` gives; behind the last one, what is read. `below`: the last block that has run, and what it
    gave."""
    inputs, overrides = masked_inputs(site, batch)
    with torch.no_grad(), site.lm.trace(**inputs, use_cache=False) as tracer:
        found = nnsight.save([])
        for index, layer in enumerate(site.layers):
            if index <= below[0]:
                layer.skip(below[1])
                continue
            narrow(layer, overrides.get(index))
            if index == end:
                found.append(layer.output)
                break
            if index in edits:
                add(stream(layer.output), edits[index])
        if not found:
            final = site.head.input
            rows, columns, tokens = batch.reads[:, 1:4].T.to(final.device)
            found.append(read(site, final[rows, columns], tokens, scale == "logprob"))
        stop(site, tracer)
    return found[0]


def edits_of(batch: Batch, vectors: dict, cells: Sequence, dtype: torch.dtype) -> dict[int, tuple]:
    """Per steered layer: rows, columns and what to add there, [n], [n] and [n, d]; `vectors` are [v, d] a layer."""
    edits = {}
    which, layers = (torch.tensor([cell[i] for cell in cells]) for i in (0, 1))
    multipliers = torch.tensor([cell[2] for cell in cells], dtype=torch.float64)
    for layer in sorted({cell[1] for cell in cells[1:]}):
        here = (layers[batch.conditions.clamp(min=0)] == layer) & (batch.conditions > 0)
        rows, columns = here.nonzero(as_tuple=True)
        if len(rows):
            of = batch.conditions[rows, columns]
            delta = multipliers[of, None] * vectors[layer][which[of]].double()
            edits[layer] = rows, columns, delta.to(dtype)
    return edits


def masked_inputs(site: Site, batch: Batch) -> tuple[dict, dict[int, torch.Tensor]]:
    """Model inputs, and the masks of layers that see less than the first layer does: transformers takes one 4-D mask
    for all, so that layers with a sliding window get theirs by editing their input, where a prompt is longer than
    it."""
    longest = int(batch.positions.max()) + 1
    limits = [None if window is None or window >= longest else window for window in site.windows]
    # A sandboxed server shows no weights, so no device either: the mask is then moved with the other inputs.
    device = site.lm.device
    device = torch.device("cpu") if device is None or device.type == "meta" else device
    masks = {window: mask(batch, window, site.dtype, device) for window in set(limits)}
    overrides = {index: masks[window] for index, window in enumerate(limits) if window != limits[0]}
    inputs = {"input_ids": batch.tokens, "attention_mask": masks[limits[0]], "position_ids": batch.positions}
    return inputs, overrides


def narrow(layer: Any, attention_mask: torch.Tensor | None) -> None:
    """Give a block another attention mask; inside a trace, before its output is asked for."""
    if attention_mask is not None:
        args, kwargs = layer.inputs
        there = kwargs["attention_mask"].device
        layer.inputs = args, {**kwargs, "attention_mask": attention_mask.to(there)}


def add(hidden: torch.Tensor, edit: tuple[torch.Tensor, ...]) -> None:
    """The steering itself: add what belongs to some tokens of [p, s, d]."""
    rows, columns, delta = (each.to(hidden.device) for each in edit)
    hidden[rows, columns] += delta


def read(site: Site, hidden: torch.Tensor, tokens: torch.Tensor, logprob: bool) -> torch.Tensor:
    """Logit or log-probability [n] of `tokens` [n] at the hidden states [n, d] that the head is given, a few rows at a time."""
    head = site.head._module
    if not logprob and not head.weight.is_meta:
        # Only the rows of the head that are asked for; half precision would round a logit of 35 to quarters.
        kind = torch.promote_types(hidden.dtype, torch.float32)
        logits = (hidden * head.weight[tokens]).sum(-1, dtype=kind)
        bias = getattr(head, "bias", None)
        return scaled(site, logits if bias is None else logits + bias[tokens])
    found = []
    for rows, wanted in zip(hidden.split(HEAD_ROWS), tokens.split(HEAD_ROWS), strict=True):
        logits = unembed(site, rows)
        if logprob:
            found.append(-torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="none"))
        else:
            found.append(logits.gather(-1, wanted[:, None])[:, 0])
    return torch.cat(found)


def unembed(site: Site, hidden: torch.Tensor) -> torch.Tensor:
    """Logits [..., vocabulary] of the hidden states [..., d] that the head is given."""
    return scaled(site, site.head(hidden))


def scaled(site: Site, logits: torch.Tensor) -> torch.Tensor:
    """Logits as the model gives them: with its scale (Granite, Cohere) and its final soft cap (Gemma 2)."""
    logits = logits if site.scale == 1.0 else logits * site.scale
    return logits if site.cap is None else site.cap * (logits / site.cap).tanh()


def direct(site: Site, question: Any, vectors: dict, cells: Sequence) -> list[torch.Tensor]:
    """Scores [2 sides, cells] of one question, one plain forward a branch and cell; see `steerkit.grid`."""
    found = torch.zeros(2, len(cells), dtype=torch.float64)
    for column, (vector, layer, multiplier) in enumerate(cells):
        delta = multiplier * vectors[layer][vector]
        for branch in question.branches:
            values = steered_logits(site, question.prefix, branch.tokens, layer, delta)[0].double()
            if question.scale == "logprob":
                values = values.log_softmax(-1)
            for item in branch.reads:
                found[item.side, column] += item.weight * values[item.position, item.token].cpu()
    return [found.to(site.scores)]


def steered_logits(
    site: Site, prefix: Sequence[int], tokens: Sequence[int], layer: int, delta: torch.Tensor
) -> list[torch.Tensor]:
    """Logits [branch tokens, vocabulary] with `delta` [d] added after block `layer`, from the first branch token on."""
    sequence, start = torch.tensor([[*prefix, *tokens]]), len(prefix)
    with torch.no_grad(), site.lm.trace(input_ids=sequence, use_cache=False):
        hidden = stream(site.layers[layer].output)
        hidden[:, start:] += delta.to(hidden.device, hidden.dtype)
        logits = nnsight.save(site.lm.output.logits[0, start:])
    return [logits]


def gradients(site: Site, questions: Sequence, layers: Sequence[int], most: int) -> list[torch.Tensor]:
    """Gradients [p, l, d] of propensities by what is added after blocks, and unsteered scores [p, 2], by one forward
    and one backward of all branches, which ends at the lowest of the blocks; see `steerkit.gradient`."""
    batch = layout(questions, rows_of(questions, 1, most), [0])
    inputs, overrides = masked_inputs(site, batch)
    rows, columns = (batch.conditions == 0).nonzero(as_tuple=True)
    deltas = torch.zeros(len(questions), len(layers), site.width, requires_grad=True)
    owners, asked, side = batch.owners[rows, columns], batch.reads[:, 0], batch.reads[:, 4]
    logprob = questions[0].scale == "logprob"
    with torch.enable_grad(), site.lm.trace(**inputs):
        for index, each in enumerate(site.layers):
            narrow(each, overrides.get(index))
            if index in layers:
                given = each.output
                hidden = stream(given).detach() if index == min(layers) else stream(given)
                added = deltas[owners, layers.index(index)].to(hidden.device, hidden.dtype)
                where = (rows.to(hidden.device), columns.to(hidden.device))
                each.output = instead(given, hidden.index_put(where, added, accumulate=True))
        final = site.head.input
        at, place, tokens = batch.reads[:, 1:4].T.to(final.device)
        values = read(site, final[at, place], tokens, logprob).double().cpu() * batch.weights
        found = nnsight.save(torch.autograd.grad((values * (1 - 2 * side)).sum(), deltas)[0])
        values = nnsight.save(values.detach())
    scores = torch.zeros(len(questions), 2, dtype=torch.float64)
    return [found, scores.index_put((asked, side), values, accumulate=True)]


def gradients_apart(site: Site, questions: Sequence, layers: Sequence[int], most: int) -> list[torch.Tensor]:
    """The same the obvious way: a plain forward and backward for every branch and block."""
    found = torch.zeros(len(questions), len(layers), site.width)
    scores = torch.zeros(len(questions), 2, dtype=torch.float64)
    for n, question in enumerate(questions):
        start = len(question.prefix)
        for branch in question.branches:
            sequence = torch.tensor([[*question.prefix, *branch.tokens]])
            for at, layer in enumerate(layers):
                delta = torch.zeros(site.width, requires_grad=True)
                with torch.enable_grad(), site.lm.trace(input_ids=sequence, use_cache=False):
                    given = site.layers[layer].output
                    hidden = stream(given).detach()
                    added = delta.to(hidden.device, hidden.dtype)
                    ahead = hidden[:, start:] + added
                    site.layers[layer].output = instead(given, torch.cat([hidden[:, :start], ahead], 1))
                    logits = site.lm.output.logits[0, start:].double()
                    told = logits.log_softmax(-1) if question.scale == "logprob" else logits
                    parts = [r.weight * told[r.position, r.token] for r in branch.reads]
                    signed = [(1 - 2 * r.side) * part for r, part in zip(branch.reads, parts, strict=True)]
                    slope = nnsight.save(torch.autograd.grad(sum(signed), delta)[0])
                    values = nnsight.save(torch.stack(parts).detach().cpu())
                found[n, at] += slope
            for r, value in zip(branch.reads, values, strict=True):
                scores[n, r.side] += value
    return [found, scores]


def divergences(site: Site, tokens: Sequence[int], layer: int, deltas: torch.Tensor) -> list[torch.Tensor]:
    """How far each of `deltas` [k, d], added after a block at every token, moves the next tokens of a text.

    Kullback-Leibler divergences [k] from the unsteered distribution, nats a token; and the norms [s - 1] of the residual
    stream there. The first token is left out of both: an attention sink, with a norm far above all others. Blocks below
    run once, if the model goes on from there as it went before.
    """
    with torch.no_grad(), site.lm.trace(input_ids=torch.tensor([tokens]), use_cache=False):
        given = nnsight.save(site.layers[layer].output)
        logits = nnsight.save(site.lm.output.logits[0])
    hidden = stream(given)
    norms, plain = hidden[0, 1:].float().norm(dim=-1).cpu(), logits[1:].float().log_softmax(-1)
    few, start = list(tokens[:TRIED]), instead(given, hidden[:, :TRIED])
    again = resumed_logits(site, few, layer, start, torch.zeros_like(hidden[0, 0]))
    resumes, moved = torch.allclose(again, logits[:TRIED], atol=1e-3, rtol=1e-3), []
    for delta in deltas:
        if resumes:
            steered = resumed_logits(site, tokens, layer, given, delta)
        else:
            [steered] = steered_logits(site, [], tokens, layer, delta)
        told = steered[1:].float().log_softmax(-1)
        moved.append(torch.nn.functional.kl_div(told, plain, reduction="sum", log_target=True) / len(plain))
    return [torch.stack(moved).double().cpu(), norms]


def resumed_logits(
    site: Site, tokens: Sequence[int], layer: int, given: Any, delta: torch.Tensor
) -> torch.Tensor:
    """Logits [s, vocabulary] with `delta` [d] added at every token to what block `layer` gave; blocks below do not run."""
    hidden = stream(given)
    below = instead(given, hidden + delta.to(hidden.device, hidden.dtype))
    with torch.no_grad(), site.lm.trace(input_ids=torch.tensor([tokens]), use_cache=False):
        for index in range(layer + 1):
            site.layers[index].skip(below)
        logits = nnsight.save(site.lm.output.logits[0])
    return logits


def continued(
    site: Site, prompt: Sequence[int], layer: int, deltas: torch.Tensor, count: int, ends: Sequence
) -> list[torch.Tensor]:
    """Tokens [k, n] that follow a prompt, each the likeliest, with each of `deltas` [k, d] added after a block.

    One row a delta, so that the weights are read once a step. Steered are the last token of the prompt and every new one,
    which is fed alone beside the cache; a model without a cache of keys and values is fed the whole row again. A row ends
    with one of `ends`, or with `BROKEN`; what stands behind that means nothing. No more steps than the longest row needs.
    """
    rows, cache, start = torch.tensor([prompt] * len(deltas)), None, len(prompt)
    open_rows = torch.ones(len(deltas), 1, dtype=torch.bool)
    while rows.shape[1] < start + count and open_rows.any():
        fed = (rows if cache is None else rows[:, -1:]).clamp(min=0)
        given = {"input_ids": fed, "use_cache": True, "logits_to_keep": 1}
        if cache is not None:  # by itself a hybrid model miscounts where the new token stands
            given |= {"past_key_values": cache, "position_ids": torch.full_like(fed, rows.shape[1] - 1)}
        steered = min(fed.shape[1], rows.shape[1] - start + 1)
        with torch.no_grad(), site.lm.trace(**given):
            hidden = stream(site.layers[layer].output)
            hidden[:, -steered:] += deltas.to(hidden.device, hidden.dtype)[:, None]
            cache = nnsight.save(getattr(site.lm.output, "past_key_values", None))
            best = site.lm.output.logits[:, -1:].max(-1)
            new = nnsight.save(torch.where(best.values.isfinite(), best.indices, BROKEN).cpu())
        rows = torch.cat([rows, new], 1)
        open_rows &= ~torch.isin(new, torch.tensor([*ends, BROKEN]))
    return [rows[:, start:]]


def contrasts(
    site: Site, parts: Sequence, wanted: Sequence[int], total: bool, most: int
) -> list[torch.Tensor]:
    """Weighted sums over answer tokens [p, sides, l, d] float32, or with `total` their sum over questions [1, ...]; the
    answers of a question are branches of one sequence; see `steerkit.extraction`."""
    found, sides = [], sides_of(parts)
    for questions in parts:
        batch = layout(questions, rows_of(questions, 1, most), [0])
        values = outputs(site, *masked_inputs(site, batch), wanted, (batch, len(questions), sides))
        values = torch.stack(values, dim=2)
        found.append(values.sum(0, keepdim=True) if total else values)
    return [torch.cat(found).sum(0, keepdim=True) if total else torch.cat(found)]


def contrasts_apart(
    site: Site, parts: Sequence, wanted: Sequence[int], total: bool, most: int
) -> list[torch.Tensor]:
    """The same the obvious way: each answer after its prompt, in a plain forward of its own."""
    questions = [question for part in parts for question in part]
    found = torch.zeros(len(questions), sides_of(parts), len(wanted), site.width)
    for n, question in enumerate(questions):
        for branch in question.branches:
            inputs = {"input_ids": torch.tensor([[*question.prefix, *branch.tokens]])}
            start = len(question.prefix)
            hidden = [stream(each)[0, start:].float().cpu() for each in outputs(site, inputs, {}, wanted)]
            for item in branch.reads:
                found[n, item.side] += item.weight * torch.stack([each[item.position] for each in hidden])
    return [found.sum(0, keepdim=True) if total else found]


def sides_of(parts: Sequence) -> int:
    """How many sums each question asks for: one more than the largest side."""
    branches = [branch for part in parts for question in part for branch in question.branches]
    return 1 + max(item.side for branch in branches for item in branch.reads)


def residuals(site: Site, batches: Sequence, layer: int, starts: Sequence, norms: bool) -> list[torch.Tensor]:
    """Output of a block from a position on, [b, s - start, d] float32 a batch, or its norms, [b, s - start, 1]; a batch
    holds sequences of one length and is one plain forward."""
    found = []
    for batch, start in zip(batches, starts, strict=True):
        [given] = outputs(site, {"input_ids": torch.tensor(batch)}, {}, [layer])
        # Cloned, because a server would send the whole storage of a part.
        hidden = stream(given)[:, start:].float().cpu().clone()
        found.append(hidden.norm(dim=-1, keepdim=True) if norms else hidden)
    return found
