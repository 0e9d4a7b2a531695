"""The exact shapes of the papers' models, written out: what a cost or a benchmark needs of a model nobody downloads.

From the `config.json` of each checkpoint at the revision in `companion.registry`.
"""

from __future__ import annotations

from typing import Any

# Name in the registry -> (transformers' configuration class, what differs between models of it).
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama2-7b": (
        "LlamaConfig",
        {
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
        },
    ),
    "qwen1.5-14b": (
        "Qwen2Config",
        {
            "vocab_size": 152064,
            "hidden_size": 5120,
            "intermediate_size": 13696,
            "num_hidden_layers": 40,
            "num_attention_heads": 40,
            "num_key_value_heads": 40,
        },
    ),
    "gemma-2-2b": (
        "Gemma2Config",
        {
            "vocab_size": 256000,
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_hidden_layers": 26,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
            "sliding_window": 4096,
        },
    ),
    "llama3.1-70b": (
        "LlamaConfig",
        {
            "vocab_size": 128256,
            "hidden_size": 8192,
            "intermediate_size": 28672,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
        },
    ),
}


def config_of(name: str, **other: Any) -> Any:
    """The transformers configuration of a model in `SHAPES`; `other` settings replace its own."""
    import transformers

    kind, shape = SHAPES[name]
    return getattr(transformers, kind)(**{**shape, **other})


# Tokens of a prompt: 32 evenly spaced quantiles over 30 letter prompts of each of the 40 sets of Tan et al. 2024, in
# the chat template of Llama 2, cut by the tokenizer of the default model.
LENGTHS = (61, 64, 66, 67, 68, 68, 69, 70, 71, 71, 72, 73, 74, 75, 76, 77)
LENGTHS += (78, 80, 82, 84, 87, 90, 94, 100, 106, 115, 125, 136, 157, 183, 209, 255)
