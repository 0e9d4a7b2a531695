"""Reading and decomposing at the size of a Gemma Scope layer, 16,384 features of width 2,304: time, peak, exactness.

    python benchmarks/pursuit.py

Random weights and a random vector, which is the hardest case: no feature stands out. Writes benchmarks/pursuit.json. The
peak is Linux' high-water mark of resident memory, from before the file is opened until after the decomposition.
"""

from __future__ import annotations

import gc
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import orthogonal_mp

from steerkit.decomposition import decompose
from steerkit.sae import Sae, load_sae

RESULTS = Path(__file__).parent / "pursuit.json"
WIDTH, FEATURES, CHOSEN, THREADS, REPETITIONS = 2304, 16_384, 64, 2, 3


def main() -> None:
    """Measure, print, write."""
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        path = write_random(Path(folder) / "params.npz")
        vector = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
        _warm()
        sae, ratio = peak(path, vector)
    spent = [timed(sae, vector) for _ in range(REPETITIONS)]
    found = {
        "command": "python benchmarks/pursuit.py",
        "dictionary": [FEATURES, WIDTH],
        "features": CHOSEN,
        "threads": THREADS,
        "machine": platform.machine(),
        "seconds": min(wall for wall, _ in spent),
        "cpu_seconds": min(cpu for _, cpu in spent),
        "peak_of_weights": ratio,
        "largest_difference_to_scikit_learn": difference(sae, vector),
        "wanted": {"seconds": 2, "peak_of_weights": 1.5, "largest_difference_to_scikit_learn": 1e-6},
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def write_random(path: Path) -> Path:
    """A file in the layout of Gemma Scope, decoder rows of unit norm."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((FEATURES, WIDTH), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    biases = {"b_enc": np.zeros(FEATURES, np.float32), "b_dec": np.zeros(WIDTH, np.float32)}
    ones = np.ones(FEATURES, np.float32)
    np.savez(path, W_enc=np.ascontiguousarray(rows.T), W_dec=rows, threshold=ones, **biases)
    return path


def peak(path: Path, vector: torch.Tensor) -> tuple[Sae, float]:
    """The autoencoder, and peak memory of reading it and decomposing with it, relative to its weights."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts again here
    before = _status("VmRSS")
    sae = load_sae(path)
    decompose(vector, sae, "signed-pursuit", CHOSEN)
    return sae, (_status("VmHWM") - before) / (sae.W_enc.nbytes + sae.W_dec.nbytes)


def timed(sae: Sae, vector: torch.Tensor) -> tuple[float, float]:
    """Seconds of one decomposition by the clock, and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    decompose(vector, sae, "signed-pursuit", CHOSEN)
    return time.perf_counter() - wall, time.process_time() - cpu


def difference(sae: Sae, vector: torch.Tensor) -> float:
    """Largest difference of a coefficient to those of scikit-learn's orthogonal matching pursuit."""
    table = decompose(vector, sae, "signed-pursuit", CHOSEN)
    mine = np.zeros(FEATURES)
    mine[table["feature"]] = table["coefficient"]
    rows = sae.W_dec.double().numpy()
    return float(np.abs(mine - orthogonal_mp(rows.T, vector.double().numpy(), n_nonzero_coefs=CHOSEN)).max())


def _warm() -> None:
    """Imports and thread pools are not what is measured."""
    rows = torch.randn(32, 8)
    sae = Sae(rows.T.contiguous(), torch.zeros(32), rows, torch.zeros(8), "relu", subtract_decoder_bias=False)
    decompose(torch.randn(8), sae, "signed-pursuit", 4)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    main()
