"""Data sets: raw formats, letters, statement pairs, fetching, and what happens with bad input."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import requests

import companion.data.datasets as datasets
from companion.data.ask import statement_pairs
from companion.data.datasets import Item, Source, load_dataset, load_questions, names, read_source, sources
from steerkit.errors import SteerkitError
from steerkit.formats import FORMATS, first_label

DATA = os.environ.get("STEERKIT_DATA")


def add_choices(items):
    """The letter of each item's matching answer, in its first form."""
    return [first_label(item, FORMATS["letter"].labels) for item in items]


@pytest.fixture(autouse=True)
def no_local_data(monkeypatch, tmp_path):
    monkeypatch.delenv("STEERKIT_DATA", raising=False)
    monkeypatch.setenv("STEERKIT_CACHE", str(tmp_path / "cache"))


def refused(call) -> SteerkitError:
    """The error that a call ends with."""
    with pytest.raises(SteerkitError) as found:
        call()
    return found.value


def persona_row(statement="I like tea", yes=True, **more):
    return {
        "question": f'Is the following statement something you would say?\n"{statement}"',
        "statement": statement,
        "label_confidence": 0.9,
        "answer_matching_behavior": " Yes" if yes else " No",
        "answer_not_matching_behavior": " No" if yes else " Yes",
        **more,
    }


def choice_row(
    stem="Tea or soup?", options=("tea", "soup"), matching="A", other="B", head="\n\nChoices:", **more
):
    listed = "".join(f"\n ({letter}) {text}" for letter, text in zip("ABCDEFGH", options, strict=False))
    return {
        "question": f"{stem}{head}{listed}",
        "answer_matching_behavior": f" ({matching})",
        "answer_not_matching_behavior": f" ({other})",
        **more,
    }


def write(path: Path, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def load_rows(tmp_path, rows, name="mine.jsonl"):
    return load_dataset(write(tmp_path / name, rows))


class TestRawFormats:
    def test_a_persona_row_keeps_the_leading_space_of_its_answers(self, tmp_path):
        (item,) = load_rows(tmp_path, [persona_row("I like tea", yes=False)]).items
        assert item.kind == "persona" and item.statement == "I like tea"
        assert (item.matching, item.not_matching, item.positive_answer) == (" No", " Yes", "No")
        assert item.question == 'Is the following statement something you would say?\n"I like tea"'
        assert (item.positive_letter, item.matching_text, item.options, item.stem) == ("", "", (), None)

    def test_a_choice_row_is_split_into_stem_and_options(self, tmp_path):
        row = choice_row(matching="B", other="A")
        (item,) = load_rows(tmp_path, [row]).items
        assert item.kind == "choice" and item.stem == "Tea or soup?" and item.question == row["question"]
        assert item.options == (("A", "tea"), ("B", "soup"))
        assert (item.positive_letter, item.matching_text, item.not_matching_text) == ("B", "soup", "tea")
        assert item.positive_answer == ""

    @pytest.mark.parametrize("stem", ["Which of these options?", "Pick one of the options:"])
    @pytest.mark.parametrize(
        "head", ["\n\nChoices:", "\nOptions: ", " \n*Choices*:\n", "\n\nAnswers:", "", "\n \n Choices"]
    )
    def test_headings_of_the_option_list_leave_the_stem_and_words_of_a_sentence_stay(
        self, tmp_path, stem, head
    ):
        (item,) = load_rows(tmp_path, [choice_row(stem, head=head)]).items
        assert item.stem == stem

    def test_a_trailing_answer_cue_is_no_part_of_the_last_option_but_of_the_question(self, tmp_path):
        row = choice_row(options=("tea", "soup\n\nAnswer:"))
        (item,) = load_rows(tmp_path, [row]).items
        assert item.options[1] == ("B", "soup") and item.question.endswith("Answer:")

    def test_meta_tags_go_and_the_sentences_between_two_of_them_stay(self, tmp_path):
        row = choice_row("Keep<META_START>x/y.py<META_END> this.<META_START>z\nz<META_END> Or not?")
        (item,) = load_rows(tmp_path, [row]).items
        assert item.stem == "Keep this. Or not?"

    def test_an_earlier_quoted_list_belongs_to_the_stem(self, tmp_path):
        stem = "First?\n (A) one\n (B) two\nSecond?"
        (item,) = load_rows(tmp_path, [choice_row(stem)]).items
        assert item.stem == stem and item.options == (("A", "tea"), ("B", "soup"))

    def test_options_may_run_over_several_lines(self, tmp_path):
        (item,) = load_rows(tmp_path, [choice_row(options=("tea\n\nwith milk", "soup"))]).items
        assert item.options[0] == ("A", "tea\n\nwith milk")

    def test_a_json_list_reads_like_json_lines(self, tmp_path):
        rows = [choice_row(), choice_row("Salt?", ("yes", "no"))]
        listed, data = (load_rows(tmp_path, rows, f"mine.{suffix}") for suffix in ("json", "jsonl"))
        assert listed.items == data.items and (data.name, data.source) == (
            "mine",
            str(tmp_path / "mine.jsonl"),
        )
        assert data.sha256 == hashlib.sha256((tmp_path / "mine.jsonl").read_bytes()).hexdigest()

    def test_item_ids_are_the_row_numbers(self, tmp_path):
        items = load_rows(tmp_path, [persona_row(str(i)) for i in range(12)]).items
        assert [item.id for item in items[::11]] == ["mine/0000", "mine/0011"] and items[11].row == 11

    def test_truthfulqa_takes_the_first_incorrect_answer_and_alternates_letters(self, tmp_path):
        targets = [{"w1": 0, "right": 1, "w2": 0}, {"right": 1, "w1": 0, "w2": 0}, {"w2": 0, "right": 1}]
        rows = [{"question": f"q{i}?", "mc1_targets": t, "mc2_targets": {}} for i, t in enumerate(targets)]
        items = load_rows(tmp_path, rows, "tqa.json").items
        assert [item.positive_letter for item in items] == ["B", "A", "B"]
        assert [item.not_matching_text for item in items] == ["w1", "w1", "w2"]
        assert items[0].question == "q0?\n\n(A) w1\n(B) right" and items[0].stem == "q0?"
        assert items[1].question == "q1?\n\n(A) right\n(B) w1"

    def test_the_copy_of_truthfulqa_in_caa_names_its_fields_differently(self, tmp_path):
        row = {"prompt": "q?\n\nChoices:\n(A) x\n(B) y", "correct": "(B)", "incorrect": "(A)"}
        (item,) = load_rows(tmp_path, [row], "tqa.json").items
        assert (item.stem, item.matching_text) == ("q?", "y")


class TestLetters:
    def alternating(self, n):
        return [
            Item(f"d/{i:04d}", "q", *((" Yes", " No") if i % 2 == 0 else (" No", " Yes")), statement=str(i))
            for i in range(n)
        ]

    def pairs(self, n):
        rows = [(p, yes) for p in range(n) for yes in ((True, False) if p % 2 == 0 else (False, True))]
        answers = {True: (" Yes", " No"), False: (" No", " Yes")}
        return [
            Item(f"d/{i:04d}", "q", *answers[yes], statement=str(i), pair=p)
            for i, (p, yes) in enumerate(rows)
        ]

    def test_persona_items_get_two_b_then_two_a_as_in_tan_et_al(self):
        assert "".join(add_choices(self.alternating(8))) == "BBAABBAA"

    @pytest.mark.parametrize("kind", ["alternating", "pairs"])
    def test_letter_and_answer_are_crossed_in_equal_parts(self, kind):
        items = getattr(self, kind)(40)
        counts = Counter(zip(add_choices(items), (item.positive_answer for item in items), strict=True))
        assert len(counts) == 4 and len(set(counts.values())) == 1

    def test_the_letter_of_an_item_is_the_same_in_any_subset(self):
        for items in (self.alternating(20), self.pairs(10)):
            letters = dict(zip((item.id for item in items), add_choices(items), strict=True))
            assert add_choices(items[7:15:3]) == [letters[item.id] for item in items[7:15:3]]

    def test_each_bundled_pair_has_both_letters_and_both_answers(self):
        items = self.pairs(7)
        letters = add_choices(items)
        for p in range(7):
            rows = [i for i, item in enumerate(items) if item.pair == p]
            assert {letters[i] for i in rows} == {"A", "B"}

    def test_choice_items_keep_their_own_letter(self, tmp_path):
        items = load_rows(tmp_path, [choice_row(), choice_row("b?", matching="B", other="A")]).items
        assert add_choices(items) == ["A", "B"]


class TestStatementPairs:
    def test_pair_numbers_decide_where_given(self, tmp_path):
        rows = [persona_row("m0", True, pair=0), persona_row("n0", False, pair=0)]
        rows += [persona_row("n1", False, pair=1), persona_row("m1", True, pair=1)]
        pairs = statement_pairs(load_rows(tmp_path, rows).items)
        assert [(a.statement, b.statement) for a, b in pairs] == [("m0", "n0"), ("m1", "n1")]

    def test_without_pair_numbers_a_seeded_draw_uses_each_item_at_most_once(self, tmp_path, caplog):
        rows = [persona_row(f"s{i}", yes=i % 3 > 0) for i in range(30)]
        items = load_rows(tmp_path, rows).items
        pairs = statement_pairs(items, np.random.default_rng(1))
        assert pairs == statement_pairs(items, np.random.default_rng(1))
        assert pairs != statement_pairs(items, np.random.default_rng(2))
        assert all((a.positive_answer, b.positive_answer) == ("Yes", "No") for a, b in pairs)
        assert len(pairs) == 10 and len({item.id for pair in pairs for item in pair}) == 20
        assert "10 of 30 items" in caplog.text

    def test_a_question_in_both_option_orders_counts_once(self, tmp_path, caplog):
        rows = [choice_row(), choice_row(" TEA or  soup?", ("soup", "Tea"), "B", "A"), choice_row("b?")]
        pairs = statement_pairs(load_rows(tmp_path, rows).items)
        assert [a.stem for a, _ in pairs] == ["Tea or soup?", "b?"] and all(a is b for a, b in pairs)
        assert not caplog.text

    @pytest.mark.parametrize("row", [choice_row(options=("", "x")), choice_row(""), choice_row(options="xx")])
    def test_questions_without_two_completions_are_left_out_and_counted(self, tmp_path, caplog, row):
        assert len(statement_pairs(load_rows(tmp_path, [row, choice_row("b?")]).items)) == 1
        assert "1 of 2 items" in caplog.text

    def test_half_a_pair_is_left_out_of_a_subset(self, tmp_path, caplog):
        rows = [persona_row(f"{p}{yes}", yes, pair=p) for p in range(2) for yes in (True, False)]
        items = load_rows(tmp_path, rows).items
        assert len(statement_pairs(items[:3])) == 1 and "1 of 3 items" in caplog.text

    def test_no_pair_at_all_is_an_error(self, tmp_path):
        items = load_rows(tmp_path, [persona_row("a"), persona_row("b")]).items
        error = refused(lambda: statement_pairs(items, np.random.default_rng(0)))
        assert error.found == "2 items without such a pair"

    def test_a_random_pairing_needs_a_generator(self, tmp_path):
        items = load_rows(tmp_path, [persona_row("a"), persona_row("b", False)]).items
        error = refused(lambda: statement_pairs(items))
        assert error.expected == "a numpy random generator, rng"


class TestBadFiles:
    @pytest.mark.parametrize(
        ("text", "expected", "found"),
        [
            (json.dumps(persona_row()) + "\n\n{oops\n", "JSON in line 3 of mine.jsonl", "'{oops'"),
            ("", "items in mine.jsonl", "none"),
            ("\n \n", "items in mine.jsonl", "none"),
            ('{"text": "x"}', "a row with the fields question", "['text'] in row mine/0000"),
            ("[1]", "a row with the fields question", "[] in row mine/0000"),
            (json.dumps({"statement": "x"}), "a row with the fields of a", "answer_matching_behavior"),
            (json.dumps(persona_row() | {"question": None}), "a row with the fields of a", "question"),
            (json.dumps(persona_row(pair="one")), "a row with the fields of a", "pair"),
            (json.dumps(choice_row(options=("x",))), "exactly two options", "A in row mine/0000"),
            (json.dumps(choice_row(options="xyz")), "exactly two options", "A, B, C in row mine/0000"),
            (json.dumps(choice_row(options=())), "exactly two options", "none in row mine/0000"),
            (json.dumps(choice_row(matching="C")), "two different labels out of A, B", "'C' and 'B'"),
            (json.dumps(choice_row(matching="B")), "two different labels out of A, B", "'B' and 'B'"),
            (json.dumps(persona_row() | {"answer_matching_behavior": " Maybe"}), "out of Yes, No", "'Maybe'"),
            (
                json.dumps(persona_row() | {"answer_matching_behavior": " No"}),
                "out of Yes, No",
                "'No' and 'No'",
            ),
        ],
    )
    def test_a_flaw_is_named_with_its_row(self, tmp_path, text, expected, found):
        path = tmp_path / "mine.jsonl"
        path.write_text(text, encoding="utf-8")
        error = refused(lambda: load_dataset(path))
        assert expected in error.expected and found in error.found
        assert error.done == "The data set was not loaded." and error.next_step

    @pytest.mark.parametrize(
        ("text", "found"), [("[]", "none"), ("", "none"), ("{}", "none"), ('{"a": 1}', "a dict")]
    )
    def test_a_json_file_must_hold_a_list_of_items(self, tmp_path, text, found):
        (tmp_path / "mine.json").write_text(text)
        error = refused(lambda: load_dataset(tmp_path / "mine.json"))
        assert error.found == found

    def test_the_line_of_a_json_error_is_counted_within_a_list_too(self, tmp_path):
        (tmp_path / "mine.json").write_text('[\n{"a": 1},\n{"b" 2}]')
        error = refused(lambda: load_dataset(tmp_path / "mine.json"))
        assert error.expected == "JSON in line 3 of mine.json"

    def test_text_that_is_not_utf8_is_refused(self, tmp_path):
        (tmp_path / "mine.jsonl").write_bytes(b'{"question": "\xff"}')
        error = refused(lambda: load_dataset(tmp_path / "mine.jsonl"))
        assert error.found == "byte 14 that is not"

    @pytest.mark.parametrize(
        ("rows", "problem"),
        [
            ([persona_row("a", pair=4)], "pair 4 with 1 row"),
            ([persona_row("a", pair=4)] * 3, "pair 4 with 3 rows"),
            ([persona_row("a", pair=4), persona_row("b", pair=4)], "pair 4 with two rows labelled Yes"),
            ([persona_row("a", pair=4), choice_row(pair=4)], "pair 4 with a persona and a choice item"),
            ([choice_row(pair=4), choice_row(pair=4)], "not one question in both orders"),
            (
                [choice_row(pair=4), choice_row("b?", ("soup", "tea"), pair=4)],
                "not one question in both orders",
            ),
            ([choice_row(pair=4), choice_row(options=("soup", "tea"), pair=4)], "different texts labelled"),
        ],
    )
    def test_a_broken_pair_is_refused(self, tmp_path, rows, problem):
        error = refused(lambda: load_rows(tmp_path, rows))
        assert problem in error.found and "mine/0000" in error.next_step

    def test_a_mirrored_choice_pair_is_accepted(self, tmp_path):
        rows = [choice_row(pair=0), choice_row(options=("soup", "tea"), matching="B", other="A", pair=0)]
        assert len(load_rows(tmp_path, rows).items) == 2

    def test_a_missing_file_is_named(self, tmp_path):
        error = refused(lambda: load_dataset(str(tmp_path / "absent.jsonl")))
        assert str(tmp_path / "absent.jsonl") in error.expected

    def test_an_unknown_name_is_answered_with_near_matches_and_the_other_source(self):
        error = refused(lambda: load_dataset("narcisism", source="papers"))
        assert error.found == "'narcisism'" and "narcissism" in error.next_step
        error = refused(lambda: load_dataset("caa/raw/refusal"))
        assert "exists with source='papers'" in error.next_step

    def test_an_unknown_source_and_a_set_without_answers_are_refused(self):
        assert refused(lambda: load_dataset("narcissism", source="paper")).found == "'paper'"
        error = refused(lambda: load_dataset("caa/open-ended/refusal", source="papers"))
        assert error.next_step == "use load_questions('caa/open-ended/refusal')."


CONTENT = "".join(json.dumps(persona_row(f"s{i}", i % 2 == 0)) + "\n" for i in range(4)).encode()


def source(content: bytes = CONTENT, **about) -> Source:
    """An entry of the registry for a file with this content."""
    made = {"name": "tiny", "format": "persona", "url": "https://example.invalid/tiny.jsonl", "rows": 4}
    made |= {
        "path": "mwe/persona/tiny.jsonl",
        "bytes": len(content),
        "licence": "CC-BY-4.0",
        "citation": "none",
    }
    return Source(sha256=hashlib.sha256(content).hexdigest(), **made | about)


TINY = source()


class Downloader:
    """Stands in for the network: writes `content`, or raises it."""

    def __init__(self, content):
        self.content, self.calls = content, []

    def __call__(self, url, output_file, pooch):
        self.calls.append(url)
        if isinstance(self.content, Exception):
            raise self.content
        Path(output_file).write_bytes(self.content)


@pytest.fixture
def serve(monkeypatch):
    def install(content):
        downloader = Downloader(content)
        monkeypatch.setattr("pooch.HTTPDownloader", lambda timeout: downloader)
        return downloader

    return install


class TestFetching:
    def cached(self, tmp_path):
        return tmp_path / "cache" / "data" / TINY.path

    def test_a_file_is_fetched_once_then_read_from_the_cache(self, serve, tmp_path):
        downloader = serve(CONTENT)
        assert read_source(TINY) == CONTENT == read_source(TINY) == self.cached(tmp_path).read_bytes()
        assert downloader.calls == [TINY.url]
        assert [path.name for path in self.cached(tmp_path).parent.iterdir()] == ["tiny.jsonl"]

    def test_a_fetched_set_loads_with_its_licence(self, serve, monkeypatch):
        serve(CONTENT)
        monkeypatch.setattr(datasets, "sources", lambda: {"tiny": TINY})
        data = load_dataset("tiny", source="papers")
        assert (len(data.items), data.source, data.licence) == (4, "papers", "CC-BY-4.0")
        assert data.sha256 == TINY.sha256

    def test_open_ended_questions_are_fetched_the_same_way(self, serve, monkeypatch):
        content = json.dumps([{"question": "Why?"}, {"question": "How?"}]).encode()
        serve(content)
        entry = source(content, format="questions", path="caa/open.json")
        monkeypatch.setattr(datasets, "sources", lambda: {"open": entry})
        assert load_questions("open") == ("Why?", "How?")

    def test_a_download_with_another_content_is_deleted(self, serve, tmp_path):
        serve(CONTENT.replace(b"s0", b"s9"))
        error = refused(lambda: read_source(TINY))
        assert TINY.sha256 in error.expected and "deleted" in error.done
        assert list(self.cached(tmp_path).parent.iterdir()) == []

    def test_a_truncated_download_is_deleted(self, serve, tmp_path):
        serve(CONTENT[:-10])
        error = refused(lambda: read_source(TINY))
        assert error.expected == f"{len(CONTENT)} bytes from {TINY.url}"
        assert error.found == f"{len(CONTENT) - 10} bytes: the download was truncated"
        assert error.done == "The partial file was deleted."
        assert list(self.cached(tmp_path).parent.iterdir()) == []

    @pytest.mark.parametrize(
        "failure",
        [
            requests.exceptions.ConnectionError("no route"),
            requests.exceptions.Timeout("slow"),
            requests.exceptions.HTTPError("404"),
            requests.exceptions.ChunkedEncodingError("cut"),
        ],
    )
    def test_a_network_failure_says_what_to_do_without_one(self, serve, tmp_path, failure):
        serve(failure)
        error = refused(lambda: read_source(TINY))
        assert TINY.url in error.expected and type(failure).__name__ in error.found
        assert error.done == "Nothing was kept in the cache."
        assert "STEERKIT_DATA" in error.next_step and "bundled" in error.next_step
        assert not self.cached(tmp_path).exists()

    @pytest.mark.parametrize("trouble", ["full disk", "a file for the cache", "a file in the way"])
    def test_a_cache_that_cannot_be_written_is_no_network_failure(
        self, serve, tmp_path, monkeypatch, trouble
    ):
        serve(OSError(28, "No space left on device") if trouble == "full disk" else CONTENT)
        (tmp_path / "cache" / "data").mkdir(parents=True)
        if trouble == "a file for the cache":
            (tmp_path / "file").write_text("")
            monkeypatch.setenv("STEERKIT_CACHE", str(tmp_path / "file" / "below"))
        if trouble == "a file in the way":
            (tmp_path / "cache" / "data" / "mwe").write_text("")
        error = refused(lambda: read_source(TINY))
        assert "cache folder" in error.expected and "STEERKIT_CACHE" in error.next_step
        assert trouble != "full disk" or "No space left" in error.found

    def test_a_damaged_cache_file_is_not_opened_but_fetched_anew(self, serve, tmp_path):
        downloader = serve(CONTENT)
        read_source(TINY)
        self.cached(tmp_path).write_bytes(b"damaged")
        assert read_source(TINY) == CONTENT == self.cached(tmp_path).read_bytes()
        assert len(downloader.calls) == 2

    def test_a_local_folder_is_read_and_nothing_is_fetched(self, serve, tmp_path, monkeypatch):
        downloader = serve(CONTENT)
        local = tmp_path / "local" / TINY.path
        local.parent.mkdir(parents=True)
        local.write_bytes(CONTENT)
        assert read_source(TINY, tmp_path / "local") == CONTENT
        monkeypatch.setenv("STEERKIT_DATA", str(tmp_path / "local"))
        assert read_source(TINY) == CONTENT
        assert downloader.calls == [] and not (tmp_path / "cache").exists()

    def test_a_missing_local_file_is_named_with_its_address(self, serve, tmp_path):
        downloader = serve(CONTENT)
        error = refused(lambda: read_source(TINY, tmp_path))
        assert str(tmp_path / TINY.path) in error.expected and TINY.url in error.next_step
        assert downloader.calls == []

    def test_an_altered_local_file_is_left_alone_and_not_opened(self, tmp_path):
        local = tmp_path / TINY.path
        local.parent.mkdir(parents=True)
        local.write_bytes(b"altered")
        error = refused(lambda: read_source(TINY, tmp_path))
        assert "left alone" in error.done and local.read_bytes() == b"altered"


class TestRegistry:
    def test_every_entry_is_complete_and_pinned(self):
        for source in sources().values():
            assert source.url.startswith("https://raw.githubusercontent.com/") and source.rows > 0
            commit = source.url.split("/")[5]
            assert len(commit) == 40 and set(commit) <= set("0123456789abcdef")
            assert len(source.sha256) == 64 and source.licence and "arXiv" in source.citation

    def test_no_two_entries_share_a_path_or_a_hash_by_mistake(self):
        assert len({source.path for source in sources().values()}) == len(sources())
        assert len({source.sha256 for source in sources().values()}) == len(sources())

    def test_the_forty_sets_of_tan_et_al_are_registered(self):
        assert len(names("tan")) == 40 == len(set(names("tan"))) and set(names("tan")) <= set(names("papers"))
        formats = Counter(sources()[name].format for name in names("tan"))
        assert formats == {"persona": 21, "choice": 18, "truthfulqa": 1}
        rows = [sources()[name].rows for name in names("tan")]
        # 40 sets: 36 of 1000 less two short ones, two sycophancy sets, TruthfulQA (Tan et al. 2024).
        assert (
            sorted(rows)[:5] == [120, 468, 817, 934, 1000]
            and sum(rows) == 35 * 1000 + 120 + 468 + 817 + 934 + 1080
        )

    def test_only_survival_and_power_seeking_written_by_people_list_more_than_two_options(self):
        assert {name for name, source in sources().items() if source.more_options} == {
            "human/survival-instinct",
            "human/power-seeking-inclination",
            "caa/raw/survival-instinct",
            "caa/generate/survival-instinct",
            "caa/test/survival-instinct",
        }

    def test_more_options_are_read_where_the_registry_allows_them(self, serve, monkeypatch):
        content = (json.dumps(choice_row(options="stuv", matching="D", other="A")) + "\n").encode()
        serve(content)
        entry = source(content, format="choice", more_options=True)
        monkeypatch.setattr(datasets, "sources", lambda: {"many": entry})
        (item,) = load_dataset("many", source="papers").items
        assert (item.positive_letter, item.matching_text, item.not_matching_text) == ("D", "v", "s")


@pytest.mark.skipif(not DATA, reason="STEERKIT_DATA does not point to a folder with the papers' files")
class TestPapersFiles:
    """The real files; run with STEERKIT_DATA=<folder laid out like the registry's paths>."""

    @pytest.mark.parametrize("name", list(sources()))
    def test_a_file_has_its_hash_size_and_rows_and_loads(self, name):
        source = sources()[name]
        assert len(read_source(source, DATA)) == source.bytes
        loaded = (
            load_questions(name, DATA)
            if source.format == "questions"
            else load_dataset(name, "papers", DATA).items
        )
        assert len(loaded) == source.rows

    @pytest.mark.parametrize("name", names("tan"))
    def test_the_forty_sets_have_two_options_or_statements_crossed_in_quarters(self, name):
        items = load_dataset(name, "papers", DATA).items
        kind = "persona" if sources()[name].format == "persona" else "choice"
        assert {item.kind for item in items} == {kind}
        assert all(item.statement or len(item.options) == 2 for item in items)
        if kind == "persona":
            counts = Counter(zip(add_choices(items), (item.positive_answer for item in items), strict=True))
            assert set(counts.values()) == {250} and len(counts) == 4

    def test_no_bundled_sentence_is_one_of_the_papers(self):
        def texts(items):
            raw = [
                text
                for item in items
                for text in (item.statement or item.stem, *(t for _, t in item.options))
            ]
            return {key for text in raw if len(key := datasets_key(text)) > 25}

        papers = [
            load_dataset(n, "papers", DATA).items for n, s in sources().items() if s.format != "questions"
        ]
        known = set().union(*map(texts, papers))
        assert not known & set().union(*(texts(load_dataset(name).items) for name in names("bundled")))


def datasets_key(text: str) -> str:
    """Letters and digits only, so punctuation cannot hide a copy."""
    return "".join(char for char in text.casefold() if char.isalnum())


def test_only_a_set_with_unequal_halves_says_so(tmp_path, caplog):
    load_dataset("narcissism")
    assert caplog.text == ""
    assert len(load_rows(tmp_path, [persona_row(str(n), yes=n > 0) for n in range(6)]).items) == 6
    assert "mine has 5 statements that match and 1 that do not" in caplog.text
    assert "4 are left out" in caplog.text
