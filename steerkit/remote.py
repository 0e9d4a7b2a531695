"""The same traces on another machine: an NDIF server that holds the model and has never heard of steerkit.

One function, `run`, stands between the package and every trace. What travels is small: tokens, positions of reads and
vectors there, scores or sums of activations back; masks are made on the server. The key to a server is nnsight's
business (NDIF_API_KEY, or its own configuration) and is not kept.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Any

import torch

from steerkit.model import Model
from steerkit.traces import site_of

# Token-passes of one job: half a minute of a small model on two cores, a few seconds of a large one on a GPU. A job is
# what is lost when a server dies, and its request and response stay small.
JOB_TOKENS = 16_384


def run(model: Model, work: Callable[..., Any], *args: Any) -> Any:
    """`work(site, *args)` where the model is: a function of `steerkit.traces` that returns a list of tensors.

    `args` are numbers, tensors, and lists, dictionaries or dataclasses of them. A server that cannot be reached, refuses
    or fails is a `RemoteFailure`; what it has finished is kept, and a further run goes on. A job that is too large for
    it is a `torch.OutOfMemoryError`.
    """
    site = site_of(model)
    if model.remote is None:
        return work(site, *args)
    from steerkit.ndif.jobs import results_of

    return results_of(model, work, site, plain(list(args)))


def plain(value: Any) -> Any:
    """The same without types of this package, which a server cannot know, and with tensors on their own storage, all of
    which nnsight sends: one row of a large one would take the rest with it."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if is_dataclass(value):
        return SimpleNamespace(**{field.name: plain(getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(each) for each in value]
    return value
