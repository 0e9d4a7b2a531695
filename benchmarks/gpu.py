"""What a GPU makes of the papers' grids: extraction, layer sweep and six vectors at one layer, for each paper's model.

Random weights at the exact shapes (`companion.models`), so nothing is downloaded; prompts of random tokens with the
lengths of the papers' prompts. Prompts a second; the share of the rate of plain bfloat16 matrix products that the
forwards reach; and the hours that the committed plan of the model's profile (`benchmarks/plans`) would take at that
speed. Under eight minutes on one large GPU; writes benchmarks/gpu.json, which the book shows.

    python benchmarks/gpu.py                 # on a machine with a GPU
    python benchmarks/gpu.py --tiny --out F  # the same code with tiny shapes on a CPU, in seconds
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import opponents
import torch
import transformers
from nnsight import TransformersModel
from torch.utils.benchmark import Timer

from companion import cost, store
from companion.models import MODELS
from companion.outline import DEFAULT, LENGTHS, SHAPES, config_of
from companion.tiny import tiny_tokenizer
from steerkit.extraction import contrast_length, differences
from steerkit.formats import question
from steerkit.grid import evaluate
from steerkit.layout import length
from steerkit.model import Model, wrap
from steerkit.prompts import Example
from steerkit.vectors import Vectors

DTYPE = "bfloat16"
NAMES = ("llama2-7b", "qwen1.5-14b", "gemma-2-2b")
MULTIPLIERS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
PLANNED = {"sweep": "sweep", "grid": "shift"}  # stage here -> stage of the plan that is made of such prompts
TINY = {"vocab_size": 500, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}


def build(name: str, device: str, tiny: bool) -> Model:
    """A model with random weights, made where it will run."""
    config = config_of(name, **(TINY if tiny else {}))
    with torch.device(device):
        how = {"attn_implementation": MODELS[name].attention, "dtype": getattr(torch, DTYPE)}
        module = transformers.AutoModelForCausalLM.from_config(config, **how)
    lm = TransformersModel(module.eval(), task="text-generation", tokenizer=tiny_tokenizer(["(A) (B)"]))
    return wrap(name, lm)


@cache
def matmul_rate(dtype: str) -> float:
    """Floating-point operations per second of matrix products in a precision: what a benchmark is set against."""
    n, device = (8192, "cuda") if torch.cuda.is_available() else (1024, "cpu")
    given = {"a": torch.ones(n, n, dtype=getattr(torch, dtype), device=device)}
    timer = Timer("a @ a", globals=given, num_threads=torch.get_num_threads())
    return 2 * n**3 / timer.blocked_autorange(min_run_time=0.3).mean


def prompts(model: Model, count: int) -> list[Example]:
    """Letter examples of random tokens, as long as those of the papers."""
    rng, vocabulary = random.Random(0), model.lm._module.config.vocab_size
    lengths = [LENGTHS[i % len(LENGTHS)] for i in range(count)]
    texts = [tuple(rng.randrange(10, vocabulary) for _ in range(each)) for each in lengths]
    return [Example(f"e{i}", "letter", text, (3,), (4,), (5,), (6,), "A") for i, text in enumerate(texts)]


def vectors(model: Model, count: int, layers: Sequence[int]) -> Vectors:
    """Random vectors, short enough that nothing overflows."""
    values = torch.randn(count, len(layers), model.width, generator=torch.Generator().manual_seed(0)) / 10
    return Vectors(tuple(f"v{i}" for i in range(count)), tuple(layers), values)


def timed(model: Model, work: Callable[[], Any], seconds: float) -> float:
    """Mean seconds of `work` over so many seconds, after one call that warms up and makes the self-check."""

    def wait() -> None:
        if model.device.type == "cuda":
            torch.cuda.synchronize()

    work()
    wait()
    calls, start = 0, time.perf_counter()
    while not calls or time.perf_counter() - start < seconds:
        work()
        wait()
        calls += 1
    return (time.perf_counter() - start) / calls


def stages(model: Model, count: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """Per stage: the work, and token-passes as the planner counts them."""
    asked, depth = prompts(model, count), len(model.layers)
    layer = MODELS[model.name].layer if MODELS[model.name].layer < depth else depth // 2
    read = sum(contrast_length(example) for example in asked)
    found = {"extraction": (lambda: differences(model, asked, range(depth)), read)}
    for stage, made in (("sweep", vectors(model, 1, range(depth))), ("grid", vectors(model, 6, [layer]))):
        conditions = 1 + len(made.names) * len(made.layers) * (len(MULTIPLIERS) - 1)
        work = lambda made=made: check(evaluate(model, asked, made, MULTIPLIERS))  # noqa: E731
        found[stage] = (work, sum(length(question(each), conditions) for each in asked))
    return found


def check(grid: Any) -> None:
    """A benchmark of the slow engine would be no benchmark of the fast one."""
    if grid.engine != "tree":
        sys.exit(f"the tree engine did not run: {grid.reason}")


def measure(name: str, device: str, tiny: bool, count: int, seconds: float) -> list[dict[str, Any]]:
    """The rows of one model."""
    model, rate, rows = build(name, device, tiny), matmul_rate(DTYPE), []
    weights = sum(w.numel() for w in set(model.lm._module.parameters()))
    tables = {model.lm._module.get_input_embeddings().weight, model.lm._module.get_output_embeddings().weight}
    each = 2 * (weights - sum(table.numel() for table in tables))
    for stage, (work, planned) in stages(model, count).items():
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        took = timed(model, work, seconds)
        speed, done = planned * each / took, opponents.operations(model, work)
        row = {
            "model": name,
            "stage": stage,
            "prompts": count,
            "token_passes": planned,
            "seconds": took,
            "prompts_per_second": count / took,
            "operations_per_second": speed,
            "operations": done,
            "share": done / took / rate,
            "whole_hours": whole_hours(name, stage, speed),
            "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        }
        rows.append(row)
        print(f"{name:12} {stage:10} {count / took:8.1f} prompts/s, share {row['share']:.2f}", flush=True)
    return rows


def whole_hours(name: str, stage: str, speed: float) -> float | None:
    """Hours for the letter tables of this stage in the committed plan, None where there is no plan."""
    path = cost.PLANS / f"{name}.json"
    if stage not in PLANNED or not path.exists():
        return None
    rows, wanted = json.loads(path.read_text(encoding="utf-8"))["rows"], (PLANNED[stage], "letter")
    return sum(row["operations"] for row in rows if (row["stage"], row["format"]) == wanted) / speed / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=NAMES, help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on the CPU, to try the code")
    parser.add_argument("--out", type=Path, help="the record; default benchmarks/gpu.json, with --tiny none")
    parser.add_argument("--prompts", type=int, help="prompts of one call; default 256, with --tiny 4")
    parser.add_argument("--seconds", type=float, help="of one stage; default 25, with --tiny none")
    given = parser.parse_args()
    if not given.tiny and not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs a GPU; --tiny tries the code without one.")
    device, began, rows = "cpu" if given.tiny else "cuda", time.perf_counter(), []
    for name in given.names:
        count = given.prompts or (4 if given.tiny else 256)
        rows += measure(name, device, given.tiny, count, given.seconds or (0 if given.tiny else 25))
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
    about = {
        "command": "python benchmarks/gpu.py" + " --tiny" * given.tiny,
        "commit": store.commit(),
        "versions": store.versions() | {"cuda": torch.version.cuda},
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "tiny": given.tiny,
        "dtype": DTYPE,
        "lengths_cut_by": DEFAULT,
        "matmul_rate": matmul_rate(DTYPE),
        "seconds": time.perf_counter() - began,
        "rows": rows,
    }
    out = given.out or (None if given.tiny else cost.RECORD)
    if out:
        out.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
