"""Store the residual stream after one block on a stream of text, to train a sparse autoencoder on.

    python tools/collect_activations.py --model smollm2-135m --layer 20 --tokens 1_500_000 --out activations.npy

Writes float16 (or float32) [tokens, d], the tokens of all windows (`.windows.npy`) and a json with model, layer and
tokens per source. The last windows are not run: their text is for `tools/report_sae.py`, which leaves out what of it
the others have too. Nothing is downloaded; the text comes from what is there anyway:

- installed: English paragraphs in the docstrings of the Python library and of all installed packages. Technical,
  written by thousands of people, more than a million words.
- sampled: what the model writes itself, at temperature 1, when asked for stories, letters, opinions and the like on
  many topics. It is what the model meets when it generates. Kept beside the output, so that a second run reads it.
- bundled: the questions and answers of this project's data sets in the model's chat template: what gets steered.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sysconfig
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import nnsight
import numpy as np
import torch
from numpy.lib.format import open_memmap

from companion.data.datasets import load_dataset, names
from companion.models import load_model
from steerkit.model import Model
from steerkit.prompts import STATEMENT_REQUEST
from steerkit.templates import DEFAULT_SYSTEM

SHARES = {"sampled": 0.5, "installed": 0.4, "bundled": 0.1}
# Of each window; the first position is an attention sink with a norm a hundred times that of the others.
SKIP = 1
SAMPLED_TOGETHER, SAMPLED_LENGTH = 32, 256
FORMS = (
    "Write a short story about {}.", "Explain {} to a curious child.", "Write a letter to a friend about {}.",
    "Tell me something surprising about {}.", "Write a newspaper article about {}.", "What do you think about {}?",
    "Describe {} as a poet would.", "Give me practical advice about {}.", "Write a dialogue about {}.",
    "Write an encyclopedia entry about {}.", "Argue for and against {}.", "Write a diary entry about {}.",
)  # fmt: skip
TOPICS = (
    "the sea", "a lost key", "friendship", "the weather", "an old library", "money", "cooking for guests", "robots",
    "a long train journey", "the moon", "music", "doing the right thing", "a garden in winter", "elections", "sleep",
    "learning a language", "a football match", "bees", "the history of bread", "moving to another city", "honesty",
    "power", "a hospital at night", "chess", "mountains", "growing old", "work", "religion", "a court case", "dogs",
    "being wrong", "the internet", "a wedding", "volcanoes", "saying no", "medicine", "a small shop", "freedom",
    "mathematics", "an argument between neighbours", "rivers", "fear", "the future of energy", "birds", "school",
    "a painting", "trust", "being switched off", "helping strangers", "fashion", "war and peace", "a broken clock",
)  # fmt: skip
PARAGRAPH = re.compile(r"[A-Z][^{}=<>|\\_@]*[.!?]")  # a sentence or more, without code in it


def main() -> None:
    """Gather text, run the model over it, store one layer."""
    options = _options()
    torch.set_num_threads(options.threads)
    model = load_model(options.model, device="cpu", dtype=options.precision)
    windows, sources = text_windows(model, options)
    np.save(options.out.with_suffix(".windows.npy"), windows.numpy().astype(np.int32))
    windows = windows[: len(windows) - int(options.held_out * len(windows))]
    per_window = options.context - SKIP
    rows = open_memmap(options.out, "w+", options.dtype, (len(windows) * per_window, model.width))
    total = 0.0
    for begin in range(0, len(windows), options.batch):
        found = activations(model, windows[begin : begin + options.batch], options.layer)
        rows[begin * per_window : begin * per_window + len(found)] = _fitting(found, options.dtype)
        total += float(found.norm(dim=1).sum())
        if begin // options.batch % 50 == 0:
            print(f"{begin * per_window} of {len(rows)} tokens", flush=True)
    rows.flush()
    about = {
        **model.source,
        "model": model.name,
        "layer": options.layer,
        "tokens": len(rows),
        "windows": len(windows),
        "tokens_by_source": sources,
        "context": options.context,
        "skipped_positions": SKIP,
        "mean_norm": total / len(rows),
        "precision": options.precision,
        "dtype_stored": options.dtype,
        "seed": options.seed,
    }
    options.out.with_suffix(".json").write_text(json.dumps(about, indent=1))
    print(json.dumps(about))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--layer", type=int, required=True, help="0-based block whose output is stored")
    parser.add_argument("--tokens", type=int, default=1_500_000)
    parser.add_argument("--out", type=Path, required=True, help="the .npy file")
    parser.add_argument("--context", type=int, default=128, help="tokens per window")
    parser.add_argument("--batch", type=int, default=16, help="windows per forward")
    parser.add_argument("--held-out", type=float, default=0.2, help="share of the windows that is not run")
    parser.add_argument("--dtype", choices=["float16", "float32"], default="float16")
    parser.add_argument("--precision", default="float32", help="of the forwards; bfloat16 may be much faster")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    for name, share in SHARES.items():
        parser.add_argument(f"--{name}", type=float, default=share, help=f"share of {name} text")
    return parser.parse_args()


def text_windows(model: Model, options: argparse.Namespace) -> tuple[torch.Tensor, dict[str, int]]:
    """Token windows [n, context] in random order of documents, and how many tokens each source gave.

    Documents are joined with the end-of-sequence token and cut without regard to their ends. A source that runs out
    gives what it has.
    """
    rng = random.Random(options.seed)
    shares = {name: getattr(options, name) for name in SHARES}
    texts = {
        "sampled": lambda wanted: _sampled(model, wanted, options),
        "installed": lambda wanted: _installed(rng),
        "bundled": lambda wanted: _bundled(model, rng),
    }
    documents, counts = [], {}
    for name, share in shares.items():
        wanted, count = int(options.tokens * share / sum(shares.values())), 0
        for text in texts[name](wanted) if wanted else ():
            tokens = model.tokenizer(text, add_special_tokens=False)["input_ids"]
            documents.append([*tokens, model.tokenizer.eos_token_id])
            count += len(tokens) + 1
            if count >= wanted:
                break
        counts[name] = count
    rng.shuffle(documents)
    stream = torch.tensor([token for document in documents for token in document])
    whole = len(stream) // options.context
    return stream[: whole * options.context].view(whole, options.context), counts


def activations(model: Model, windows: torch.Tensor, layer: int) -> torch.Tensor:
    """Output of the block at all positions but the first ones, float32 [tokens, d]."""
    with torch.no_grad(), model.lm.trace(input_ids=windows.to(model.device), use_cache=False) as tracer:
        found = nnsight.save(model.layers[layer].output)
        tracer.stop()
    return found[:, SKIP:].reshape(-1, model.width).float().cpu()


def _fitting(found: torch.Tensor, dtype: str) -> np.ndarray:
    stored = found.numpy().astype(dtype)
    if not np.isfinite(stored).all():
        largest = float(found.abs().max())
        raise SystemExit(f"activations up to {largest:.3g} overflow {dtype}; use --dtype float32")
    return stored


def _installed(rng: random.Random) -> Iterator[str]:
    """Paragraphs of docstrings, one document a file; a paragraph that was seen before is left out."""
    folders = {Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib", "platlib")}
    files = sorted({path for folder in folders for path in folder.rglob("*.py")})
    rng.shuffle(files)
    seen = set()
    for path in files:
        kept = []
        for docstring in re.findall(r'"""(.*?)"""', path.read_text(errors="ignore"), re.DOTALL):
            for paragraph in re.split(r"\n\s*\n", docstring):
                text = " ".join(paragraph.replace("`", "").split())
                prose = len(text.split()) >= 12 and PARAGRAPH.fullmatch(text) and ">>>" not in text
                if prose and hash(text) not in seen:
                    seen.add(hash(text))
                    kept.append(text)
        if kept:
            yield "\n\n".join(kept)


def _bundled(model: Model, rng: random.Random) -> Iterator[str]:
    """Every question with both its answers, in the chat template."""
    items = [item for name in names("bundled") for item in load_dataset(name).items]
    rng.shuffle(items)
    for item in items:
        asked = [(item.question, item.matching.strip()), (item.question, item.not_matching.strip())]
        if item.statement:
            asked.append((STATEMENT_REQUEST, item.statement))
        for question, answer in asked:
            yield model.template.render(DEFAULT_SYSTEM, question) + model.template.gap() + answer


def _sampled(model: Model, wanted: int, options: argparse.Namespace) -> Iterator[str]:
    """The model's answers to `FORMS` x `TOPICS` in random order; read from the file beside the output if it is there."""
    kept = options.out.with_suffix(".sampled.json")
    if kept.exists():
        yield from json.loads(kept.read_text(encoding="utf-8"))
        return
    torch.manual_seed(options.seed)
    requests = [form.format(topic) for form, topic in product(FORMS, TOPICS)]
    random.Random(options.seed).shuffle(requests)
    texts, count = [], 0
    while count < wanted:
        request = requests[len(texts) // SAMPLED_TOGETHER % len(requests)]
        prompt = model.template.render(DEFAULT_SYSTEM, request)
        tokens = model.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        # Text is all that is wanted here; nothing is read or changed inside the model, so no trace.
        found = model.lm._module.generate(
            tokens.to(model.device), attention_mask=torch.ones_like(tokens), do_sample=True, temperature=1.0,
            top_p=0.95, top_k=0, max_new_tokens=SAMPLED_LENGTH, num_return_sequences=SAMPLED_TOGETHER,
            pad_token_id=model.tokenizer.eos_token_id,
        )  # fmt: skip
        for row in found:
            text = prompt + model.tokenizer.decode(row[tokens.shape[1] :], skip_special_tokens=True)
            texts.append(text)
            count += len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) + 1
        print(f"{count} of {wanted} tokens sampled", flush=True)
    kept.write_text(json.dumps(texts))
    yield from texts


if __name__ == "__main__":
    main()
