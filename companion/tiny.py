"""Tiny random models and a word-level tokenizer, built in code: for tests and the `smoke` profile.

They know nothing. They have the real architecture classes, so whatever must hold for every model of a family
(two engines, one answer) can be checked in seconds, without a download.
"""

from collections.abc import Iterable
from typing import Any

_SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
_LLAMA = {**_SHAPE, "num_key_value_heads": 2}
_SLIDING = {**_LLAMA, "head_dim": 8, "sliding_window": 9}
_GEMMA = {**_SLIDING, "query_pre_attn_scalar": 8}

# Architecture -> (config class, extra settings). Windows are far shorter than a prompt, so that a mask which
# forgets them is wrong at once; head dimensions are small; soft caps are switched on where the family has them.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _LLAMA),
    "qwen2": ("Qwen2Config", _LLAMA),
    "gemma2": ("Gemma2Config", _GEMMA),
    "gemma3": ("Gemma3TextConfig", {**_GEMMA, "layer_types": ["sliding_attention", "full_attention"] * 2}),
    "mistral": ("MistralConfig", _SLIDING),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 2048}),
    "gpt_neox": ("GPTNeoXConfig", _SHAPE),
}

SPECIALS = ("<unk>", "<s>", "</s>")


def tiny_tokenizer(texts: Iterable[str]) -> Any:
    """A word-level tokenizer over the words, marks and spaces of `texts` (a transformers fast tokenizer)."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]|\s"), "isolated")
    words.decoder = decoders.Fuse()
    trainer = trainers.WordLevelTrainer(special_tokens=list(SPECIALS), vocab_size=30_000)
    words.train_from_iterator(sorted(texts), trainer)
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def tiny_lm(architecture: str, tokenizer: Any, seed: int = 0, attention: str | None = None) -> Any:
    """An nnsight model with random float32 weights, wide enough for logits that show a wrong mask."""
    import torch
    import transformers
    from nnsight import TransformersModel

    name, settings = ARCHITECTURES[architecture]
    ids = {"pad_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, name)(vocab_size=len(tokenizer), **ids, **settings)
    attention = attention or ("eager" if architecture == "gemma2" else "sdpa")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        module = module.float().eval()
        for weight in module.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.15)
    return TransformersModel(module, task="text-generation", tokenizer=tokenizer)
