"""A steering vector as a control vector of llama.cpp, for who serves a model instead of tracing it.

The file has the architecture "controlvector" and a float32 tensor `direction.L` [d] for each layer, which llama.cpp adds
to the output of the 0-based block L; it knows none for block 0. It adds to *every* token, with the strength that is given
to `--control-vector-scaled`; here vectors act from the last token of the prompt on.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from steerkit.errors import need

if TYPE_CHECKING:
    from steerkit.vectors import Vectors


def control_vector(vectors: Vectors) -> bytes:
    """The content of a GGUF file with one vector, at all of its layers."""
    import gguf

    named = ", ".join(vectors.names)
    step = "choose it with `select([name])`."
    need(len(vectors.names) == 1, "one vector for a control vector", named, step)
    step = "choose others with `select(layers=...)`."
    need(0 not in vectors.layers, "layers from 1 on, which llama.cpp can steer", "layer 0", step)
    model = str(vectors.manifest.get("inputs", {}).get("model", ""))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vector.gguf"
        writer = gguf.GGUFWriter(path, "controlvector")
        writer.add_string("controlvector.model_hint", model)
        writer.add_uint32("controlvector.layer_count", len(vectors.layers))
        for layer in vectors.layers:
            writer.add_tensor(f"direction.{layer}", vectors.at(layer)[0].float().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()
