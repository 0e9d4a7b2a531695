"""Steered text: the same prompt under several multipliers at once, greedily, with a cache of keys and values.

The vector is added to the output of one block from the last prompt token on, as `evaluate` does where it scores an
answer: at that token when the prompt is read, and at every new token when it is fed back.
"""

from collections.abc import Sequence
from itertools import takewhile

import torch

from steerkit import traces
from steerkit.errors import need
from steerkit.model import Model
from steerkit.prompts import Example, Prompter
from steerkit.remote import run
from steerkit.templates import DEFAULT_SYSTEM
from steerkit.trust import SHORTEST, check_steering, halving
from steerkit.vectors import Vectors, check_multipliers


def generate(
    model: Model,
    prompt: str | Example,
    vectors: Vectors,
    *,
    layer: int,
    multipliers: Sequence[float],
    name: str = "full",
    max_new_tokens: int = 40,
    system: str | None = None,
) -> list[tuple[float, str]]:
    """What the model says to a prompt under each multiplier, the likeliest token each time.

    Parameters
    ----------
    prompt : what the user says, put through the model's chat template; or an example, whose prompt is taken
    layer : 0-based block to whose output the vector called `name` is added, from the last prompt token on
    multipliers : k different numbers, one row of the batch each; 0 is the unsteered model
    max_new_tokens : most tokens of a text; it ends earlier where the model ends it
    system : system prompt, default `steerkit.templates.DEFAULT_SYSTEM`
    """
    multipliers = [float(multiplier) for multiplier in multipliers]
    check_steering(model, vectors, [layer], multipliers, [name])
    check_multipliers(vectors.select([name], [layer]), multipliers, model.dtype)
    need(max_new_tokens > 0, "at least one new token", str(max_new_tokens), "ask for more.")
    tokens, ends = prompt_tokens(model, prompt, system), ends_of(model)
    need(bool(tokens), "a prompt of at least one token", "none", "say something.")
    # Beyond its positions a model gives nonsense, or an error from deep inside.
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None) or torch.inf
    expected = f"at most {most} tokens, the positions of {model.name}"
    found = f"{len(tokens)} and {max_new_tokens} new ones"
    mend = "shorten the prompt, or ask for fewer new tokens."
    need(len(tokens) + max_new_tokens <= most, expected, found, mend)
    deltas = deltas_of(vectors, name, layer, multipliers)

    def attempt(rows: list[int], _: int) -> torch.Tensor:
        [found] = run(model, traces.continued, tokens, layer, deltas[rows], max_new_tokens, ends)
        return found

    texts = {}
    for rows, found in halving(attempt, list(range(len(multipliers))), SHORTEST):
        for row, new in zip(rows, found.tolist(), strict=True):
            new = list(takewhile(lambda token: token not in ends, new))
            broken = f"NaN or infinity with multiplier {multipliers[row]:g}"
            need(traces.BROKEN not in new, "finite logits", broken, "use a smaller multiplier, or float32.")
            texts[row] = model.tokenizer.decode(new, skip_special_tokens=True)
    return [(multiplier, texts[row]) for row, multiplier in enumerate(multipliers)]


def prompt_tokens(model: Model, prompt: str | Example, system: str | None = None) -> list[int]:
    """The tokens after which the model speaks."""
    if isinstance(prompt, Example):
        return list(prompt.prompt)
    template = model.template
    found = f"the template {template.name!r} of a base model, which has no place for one"
    placed = system is None or template.has_system
    need(placed, "a chat template with a system prompt", found, "leave the system prompt out.")
    system = DEFAULT_SYSTEM if system is None else system
    asked = prompt, template.user_at(system)
    return Prompter(model.tokenizer, template).ids(template.render(system, prompt), asked)


def deltas_of(vectors: Vectors, name: str, layer: int, multipliers: Sequence[float]) -> torch.Tensor:
    """What is added under each multiplier, [k, d] float32."""
    vector = vectors.at(layer)[vectors.names.index(name)]
    return (torch.tensor(multipliers, dtype=torch.float64)[:, None] * vector.double()).float()


def ends_of(model: Model) -> list[int]:
    """Tokens with which the model ends a text: those of its generation configuration, and the tokenizer's."""
    own = getattr(model.lm._module, "generation_config", None)
    given = [getattr(own, "eos_token_id", None), model.tokenizer.eos_token_id]
    flat = {end for one in given for end in (one if isinstance(one, list) else [one])}
    return sorted(flat - {None})
