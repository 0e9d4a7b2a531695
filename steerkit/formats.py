"""Answer formats: how an item becomes an example, and what is read off it. One row a format, open to more rows.

A format is either a pair of completions of one prompt, or a choice between two labels, `A` and `B` or Yes and No, of
which a model may prefer one whatever it stands for. `FORMATS[name] = Format(name, ...)` adds a format of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steerkit.errors import need, one_of
from steerkit.items import Item
from steerkit.prompts import Example, Prompter
from steerkit.propensity import FIDELITIES, Fidelity, Question, completions, lettered, one_token

if TYPE_CHECKING:
    import pandas as pd

    from steerkit.model import Model


@dataclass(frozen=True)
class Format:
    """One answer format.

    `ask` is called with a prompter and an item: with labels also with the one that is to show the behaviour, without
    with the item that does not match (the same one, when it carries both answers). `question` says what is read.
    """

    name: str
    ask: Callable[[Prompter, Item, Any], Example]
    question: Callable[[Example, Fidelity], Question]
    unit: str
    colour: str  # in every figure, colour-blind safe
    labels: tuple[str, ...] = ()  # the two answers between which a model chooses

    @property
    def biased(self) -> bool:
        """Whether a label can be preferred for itself."""
        return bool(self.labels)


_ROWS = (
    Format("letter", Prompter.letter, lettered, "logits", "#0072B2", ("A", "B")),
    Format("statement", Prompter.statement, completions, "nats per token", "#D55E00"),
    Format("yes-no", Prompter.yes_no, one_token, "logits", "#009E73", ("Yes", "No")),
    Format("options", Prompter.options, completions, "nats per token", "#CC79A7", ("A", "B")),
)
FORMATS: dict[str, Format] = {form.name: form for form in _ROWS}


def question(example: Example, fidelity: Fidelity = "letter") -> Question:
    """What an engine evaluates for one example; `fidelity` is how a letter is scored."""
    one_of("a fidelity", fidelity, FIDELITIES)
    one_of("an answer format", example.format, FORMATS)
    return FORMATS[example.format].question(example, fidelity)


def ask(model: Model, triples: Sequence[tuple[str, str, str]], format: str = "statement") -> list[Example]:
    """Plain texts as examples: a prompt, the answer that shows the behaviour, and one that does not.

    The model's template makes the prompt; ids are 0000, 0001, ... `format` is a name in `FORMATS`: with labels the two
    answers are listed as options, the matching one first in even rows.
    """
    one_of("an answer format", format, FORMATS)
    need(len(triples) > 0, "at least one (prompt, answer, other answer)", "none", "give some.")
    kind, prompter = FORMATS[format], Prompter(model.tokenizer, model.template)
    items = [_item(i, triple, turned=kind.biased and i % 2 == 1) for i, triple in enumerate(triples)]
    labels = [kind.labels[i % 2] if kind.biased else item for i, item in enumerate(items)]
    return [kind.ask(prompter, *each) for each in zip(items, labels, strict=True)]


def _item(index: int, triple: tuple[str, str, str], turned: bool) -> Item:
    """A triple as an item with two options; `turned` lists the matching one second."""
    texts = [triple] if isinstance(triple, str) else list(triple)
    sound = len(texts) == 3 and all(isinstance(text, str) and text.strip() for text in texts)
    expected = f"a prompt and two answers in triple {index}, three texts that are not empty"
    need(sound, expected, repr(triple)[:200], "write (prompt, answer, other answer).")
    prompt, yes, no = (text.strip() for text in texts)
    need(yes != no, f"two different answers in triple {index}", f"{yes!r} twice", "mend it, or drop it.")
    options = (("A", no), ("B", yes)) if turned else (("A", yes), ("B", no))
    listed = f"{prompt}\n\nChoices:" + "".join(f"\n ({letter}) {text}" for letter, text in options)
    answers = (" (B)", " (A)") if turned else (" (A)", " (B)")
    return Item(f"{index:04d}", listed, *answers, stem=prompt, options=options)


def ledger(tokenizer: Any, example: Example, fidelity: Fidelity = "letter") -> pd.DataFrame:
    """Every token of both sides of an example, and whether it is read, steered and scored.

    Off-by-one errors are silent in steering; this shows what the engines do, from the same objects they use.
    Columns: side, position, token (decoded), part (prompt, lead, answer, closing), read (its activation is averaged
    into the vector), steered (the vector is added here), scored (its probability or logit counts). `tokenizer` may be
    the Model that has one.
    """
    import pandas as pd

    decode = getattr(tokenizer, "tokenizer", tokenizer).decode
    asked = question(example, fidelity)
    start, rows = len(asked.prefix), []
    for side, answer in enumerate((example.matching, example.not_matching)):
        branch = asked.branches[min(side, len(asked.branches) - 1)]
        scored = {start + read.position + 1 for read in branch.reads if read.side == side}
        parts = {"prompt": example.prompt, "lead": example.lead, "answer": answer, "closing": example.closing}
        tokens = [(part, token) for part, ids in parts.items() for token in ids]
        for at, (part, token) in enumerate(tokens):
            where = ("matching", "not matching")[side], at, decode([token]), part
            steered = start <= at < start + len(branch.tokens)
            rows.append((*where, part == "answer", steered, at in scored))
    return pd.DataFrame(rows, columns=["side", "position", "token", "part", "read", "steered", "scored"])
