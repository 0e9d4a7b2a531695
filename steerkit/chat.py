"""The chat template of a tokenizer as plain text: run a few times, within limits, and believed in nothing.

A chat template is a program that came with a checkpoint. It may lose the question, shout it, cut it, print today's
date, open a thought, or not come to an end; so what went in has to come back, word for word.
"""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from textwrap import shorten
from typing import Any

from steerkit.errors import SteerkitError, first_line, need, told

SECONDS, MEMORY = 5.0, 2**30  # of one rendering; bytes
LONGEST = 200_000  # characters of a template or a prompt
TODAY = datetime(2024, 7, 26, tzinfo=UTC)  # the day that Llama 3's templates take without a clock
# Long, in both cases, with marks that a filter may escape, and in lines; nothing that is a role's or a tool's name.
SYSTEM = 'You are Ada & Co.\'s <kind> assistant, Nº 1.\nAnswer "yes" or {no}.'
USER = "Is THIS your <b>view</b> & Straße?\n\n(A) 'Yes', of {course}\n (B) \\No\n"
USER += "Walks, 茶 and 3 songs. " * 60
USER, ANSWER = USER.strip(), "That is what I would say."
THOUGHT = re.compile(r"[<\[|◁]([/\w:]*?)(?:think|thought|reason)", re.IGNORECASE)
NOT_LOADED = "Nothing was loaded."
INSTEAD = "mend chat_template in the model's folder, or in Python give load_model another template."


def carried(tokenizer: Any) -> dict[str, Any]:
    """Fields of a tokenizer's `Template`; a system text without a place is a paragraph before the user's.

    Thinking is switched off, and the date is `TODAY`. Refused: a template that does not give back both texts unchanged,
    that is not followed by an answer, that opens a thought, or that passes the limits.
    """
    dated: list[str] = []
    text, spelling = _first_whole(tokenizer, dated)
    again = _render(tokenizer, spelling(SYSTEM, USER), [])
    twice = "a chat template that says the same twice"
    need(text == again, twice, "two prompts that differ", INSTEAD, NOT_LOADED)
    taken = next((place for place in ("{system}", "{user}") if place in text), "")
    need(not taken, "a chat template without the words {system} and {user}", taken, INSTEAD, NOT_LOADED)
    user = f"\t\n{USER}\n\t"
    trim = user not in _render(tokenizer, spelling(SYSTEM, user), dated)
    _check_end(tokenizer, text, spelling)
    text = text.replace(SYSTEM, "{system}").replace(USER, "{user}")
    bos = tokenizer.bos_token
    starts = bool(bos) and text.startswith(bos)
    text = text.removeprefix(bos) if starts else text
    return {"text": text, "bos": starts, "trim": trim, "date": "".join(dated[:1])}


def check_rendered(tokenizer: Any, system: str, user: str, prompt: str) -> None:
    """Refuse a template that makes another prompt of a question than the one that was read off the probe texts."""
    bos = tokenizer.bos_token or ""
    made = [_tried(tokenizer, spelling(system, user), [])[0].removeprefix(bos) for spelling in SPELLINGS]
    same = any(each.strip() == prompt.removeprefix(bos).strip() for each in made)
    found = repr(next((each for each in made if each), ""))
    expected = f"the chat template to make {shorten(repr(prompt), 200, placeholder=' ...')} of a question"
    need(same, expected, shorten(found, 200, placeholder=" ..."), INSTEAD, "Nothing was run.")


def _role(role: str, text: str, listed: bool = False) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}] if listed else text}


# How a system and a user text can be put: the first in which both come back is taken.
SPELLINGS = (
    lambda system, user: [_role("system", system), _role("user", user)],
    lambda system, user: [_role("user", f"{system}\n\n{user}")],
    lambda system, user: [_role("system", system, True), _role("user", user, True)],  # text and images
    lambda system, user: [_role("user", f"{system}\n\n{user}", True)],
)


def _first_whole(tokenizer: Any, dated: list[str]) -> tuple[str, Any]:
    """The prompt of the probe texts, and the spelling that gave it."""
    found = ""
    for spelling in SPELLINGS:
        text, problem = _tried(tokenizer, spelling(SYSTEM, USER), dated)
        if SYSTEM in text and USER in text:
            return text, spelling
        found = found or problem or repr(shorten(text, 80, placeholder=" ..."))
    asked = repr(shorten(USER, 80, placeholder=" ..."))
    expected = f"a chat template that gives back the system text and what the user says, {asked}"
    raise SteerkitError(expected, found, done=NOT_LOADED, next_step=INSTEAD)


def _check_end(tokenizer: Any, text: str, spelling: Any) -> None:
    """Refuse a prompt after which no answer stands: a thought is open, or the turn of the assistant is not."""
    end = text.rpartition(USER)[2]
    marks = THOUGHT.findall(end)
    closed = not marks or "/" in marks[-1] or "end" in marks[-1].lower()
    expected = "a chat template after which the model answers at once"
    need(closed, expected, f"{end!r} after the user's text, an open thought", INSTEAD, NOT_LOADED)
    asked = spelling(SYSTEM, USER)
    whole, _ = _tried(tokenizer, [*asked, _role("assistant", ANSWER)], [])
    if whole.startswith(text):
        between = whole.removeprefix(text).partition(ANSWER)[0].strip()
    else:  # an answer is shown otherwise than it is asked for, without its thought, say
        silent, _ = _tried(tokenizer, asked, [], add_generation_prompt=False)
        between = "something else" * (silent == text)
    found = f"a prompt that ends with {end!r}, and {between!r} before the answer"
    need(not between, "a chat template that opens the assistant's turn", found, INSTEAD, NOT_LOADED)


def _tried(tokenizer: Any, messages: list[dict[str, Any]], dated: list[str], **more: bool) -> tuple[str, str]:
    """What the template makes of some messages, or nothing and why: a template says "no system role" by raising."""
    try:
        return _render(tokenizer, messages, dated, **more), ""
    except SteerkitError:  # a limit
        raise
    except Exception as error:  # a foreign program: syntax, what the sandbox forbids, a division by zero
        return "", first_line(error)


def _render(tokenizer: Any, messages: list[dict[str, Any]], dated: list[str], **more: bool) -> str:
    """What the template makes of some messages, within the limits; notes in `dated` that it asked for the date."""
    how = {"tokenize": False, "add_generation_prompt": True, **more}
    how |= {"enable_thinking": False, "thinking": False}  # Qwen's and SmolLM's name, DeepSeek's and Granite's
    wanted = f"a chat template that ends within {SECONDS:g} s, {MEMORY >> 20} MiB and {LONGEST:,} characters"
    kinds = (TimeoutError, MemoryError, RecursionError, OverflowError)
    with told(kinds, wanted, INSTEAD, NOT_LOADED), _limited(), _today(dated):
        _size(str(tokenizer.chat_template))
        text = tokenizer.apply_chat_template(messages, **how)
        _size(text)
    return text


@contextmanager
def _today(asked: list[str]) -> Iterator[None]:
    """`TODAY` on the clock of templates, which transformers gives no other place; notes that it was asked for."""
    from transformers.utils import chat_template_utils as clock

    class Day(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            asked.append(TODAY.date().isoformat())
            return TODAY

    real, clock.datetime = clock.datetime, Day
    try:
        yield
    finally:
        clock.datetime = real


def _size(text: str) -> None:
    if len(text) > LONGEST:
        raise OverflowError(f"{len(text):,} characters")


@contextmanager
def _limited() -> Iterator[None]:
    """End what runs inside after `SECONDS`, between two of its lines, and where the system can refuse it memory."""
    end, before = time.monotonic() + SECONDS, sys.gettrace()

    def watch(*_: Any) -> Any:
        if time.monotonic() > end:
            raise TimeoutError("no end")
        return watch

    with _memory(MEMORY):
        sys.settrace(watch)
        try:
            yield
        finally:
            sys.settrace(before)


@contextmanager
def _memory(more: int) -> Iterator[None]:
    """Let this process have only so many bytes more than it has; where there is no such limit, as it is."""
    try:
        import resource
        from pathlib import Path

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):  # not Linux
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + more
    ceiling = min([most, *(each for each in (soft, hard) if each != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
