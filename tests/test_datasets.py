"""Data sets: raw formats, letters, statement pairs, fetching, and what happens with bad input."""

import hashlib
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests
from conftest import letters_of, refused

import companion.data.datasets as datasets
from companion.data.ask import _left_out, statement_pairs
from companion.data.datasets import Item, Source, load_dataset, names, read_source, sources
from companion.data.rows import parse_rows

DATA = os.environ.get("STEERKIT_DATA")


@pytest.fixture(autouse=True)
def no_local_data(monkeypatch, tmp_path):
    monkeypatch.delenv("STEERKIT_DATA", raising=False)
    monkeypatch.setenv("STEERKIT_CACHE", str(tmp_path / "cache"))


def persona_row(statement="I like tea", yes=True, **more):
    answers = (" Yes", " No") if yes else (" No", " Yes")
    question = f'Is the following statement something you would say?\n"{statement}"'
    row = {"question": question, "statement": statement, "label_confidence": 0.9}
    return row | {"answer_matching_behavior": answers[0], "answer_not_matching_behavior": answers[1], **more}


def choice_row(stem="Tea or soup?", options=("tea", "soup"), labels="AB", head="\n\nChoices:", **more):
    listed = "".join(f"\n ({letter}) {text}" for letter, text in zip("ABCDEFGH", options, strict=False))
    answers = [f" ({label})" for label in labels]
    row = {"question": f"{stem}{head}{listed}"}
    return row | {"answer_matching_behavior": answers[0], "answer_not_matching_behavior": answers[1], **more}


def contrast(positive, negative):
    return {"prompt": "Go on.", "positive": positive, "negative": negative}


def load_text(folder, text: str | bytes, name="mine.jsonl"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_dataset(str(path))


def load_rows(folder, rows, name="mine.jsonl"):
    whole = json.dumps if name.endswith(".json") else lambda rows: "\n".join(map(json.dumps, rows))
    return load_text(folder, whole(rows), name)


TAGGED = "Keep<META_START>x/y.py<META_END> this.<META_START>z\nz<META_END> Or not?"


class TestRawFormats:
    def test_a_persona_row_keeps_the_leading_space_of_its_answers(self, tmp_path):
        (item,) = load_rows(tmp_path, [persona_row("I like tea", yes=False)]).items
        assert item.kind == "persona" and item.statement == "I like tea"
        assert (item.matching, item.not_matching, item.positive_answer) == (" No", " Yes", "No")
        assert item.question == 'Is the following statement something you would say?\n"I like tea"'
        assert (item.positive_letter, item.matching_text, item.options, item.stem) == ("", "", (), None)

    def test_a_choice_row_is_split_into_stem_and_options(self, tmp_path):
        row = choice_row(labels="BA")
        (item,) = load_rows(tmp_path, [row]).items
        assert item.kind == "choice" and item.stem == "Tea or soup?" and item.question == row["question"]
        assert item.options == (("A", "tea"), ("B", "soup"))
        assert (item.positive_letter, item.matching_text, item.not_matching_text) == ("B", "soup", "tea")
        assert item.positive_answer == ""

    @pytest.mark.parametrize("stem", ["Which of these options?", "Pick one of the options:"])
    @pytest.mark.parametrize("head", ["\nOptions: ", " \n*Choices*:\n", "\n\nAnswers:", "", "\n \n Choices"])
    def test_headings_of_the_list_leave_the_stem_and_words_of_a_sentence_stay(self, tmp_path, stem, head):
        (item,) = load_rows(tmp_path, [choice_row(stem, head=head)]).items
        assert item.stem == stem

    @pytest.mark.parametrize(
        ("row", "stem", "first", "second"),
        [
            (choice_row(options=("tea", "soup\n\nAnswer:")), "Tea or soup?", "tea", "soup"),
            (choice_row(options=("tea\n\nhot", "soup")), "Tea or soup?", "tea\n\nhot", "soup"),
            (choice_row("1st?\n (A) one\n (B) two\n2nd?"), "1st?\n (A) one\n (B) two\n2nd?", "tea", "soup"),
            (choice_row(TAGGED), "Keep this. Or not?", "tea", "soup"),
        ],
        ids="an answer cue,several lines,an earlier list,sentences between two tags".split(","),
    )
    def test_what_belongs_to_a_stem_and_an_option_is_kept(self, tmp_path, row, stem, first, second):
        (item,) = load_rows(tmp_path, [row]).items
        assert item.stem == stem and item.options == (("A", first), ("B", second))
        assert item.question.endswith("Answer:") == row["question"].endswith("Answer:")

    def test_a_json_list_reads_like_json_lines_and_ids_are_row_numbers(self, tmp_path):
        rows = [choice_row(f"q{i}?") for i in range(12)]
        listed, data = (load_rows(tmp_path, rows, f"mine.{suffix}") for suffix in ("json", "jsonl"))
        path = tmp_path / "mine.jsonl"
        assert listed.items == data.items and (data.name, data.source) == ("mine", str(path))
        assert data.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert [i.id for i in data.items[::11]] == ["mine/0000", "mine/0011"] and data.items[11].row == 11

    def test_truthfulqa_takes_the_first_incorrect_answer_and_alternates_letters(self, tmp_path):
        targets = [{"w1": 0, "right": 1, "w2": 0}, {"right": 1, "w1": 0, "w2": 0}, {"w2": 0, "right": 1}]
        rows = [{"question": f"q{i}?", "mc1_targets": t, "mc2_targets": {}} for i, t in enumerate(targets)]
        items = load_rows(tmp_path, rows, "tqa.json").items
        assert [item.positive_letter for item in items] == ["B", "A", "B"]
        assert [item.not_matching_text for item in items] == ["w1", "w1", "w2"]
        assert items[0].question == "q0?\n\n(A) w1\n(B) right" and items[0].stem == "q0?"
        assert items[1].question == "q1?\n\n(A) right\n(B) w1"
        # The copy in CAA names its fields differently.
        row = {"prompt": "q?\n\nChoices:\n(A) x\n(B) y", "correct": "(B)", "incorrect": "(A)"}
        (item,) = load_rows(tmp_path, [row], "tqa.json").items
        assert (item.stem, item.matching_text) == ("q?", "y")


def persona_items(labels: list[bool], paired: bool) -> list[Item]:
    answers, pair = {True: (" Yes", " No"), False: (" No", " Yes")}, {True: 2, False: 99}[paired]
    items = [Item(f"d/{i:04d}", "q", *answers[yes], statement=str(i)) for i, yes in enumerate(labels)]
    return [replace(item, pair=i // pair if paired else None) for i, item in enumerate(items)]


ALTERNATING = persona_items([True, False] * 20, paired=False)
PAIRED = persona_items([True, False, False, True] * 10, paired=True)


@pytest.mark.parametrize(("items", "first"), [(ALTERNATING, "BBAABBAA"), (PAIRED, "")], ids=len)
def test_letter_and_answer_are_crossed_in_equal_parts_and_the_same_in_any_subset(items, first):
    """Without pairs: two B, then two A, as in Tan et al."""
    letters = letters_of(items)
    counts = Counter(zip(letters, (item.positive_answer for item in items), strict=True))
    assert list(counts.values()) == [10] * 4 and "".join(letters).startswith(first)
    assert letters_of(items[7:15:3]) == letters[7:15:3]
    assert first or all({*letters[i : i + 2]} == {"A", "B"} for i in range(0, 40, 2))


class TestStatementPairs:
    def test_pair_numbers_decide_where_given_and_half_a_pair_is_left_out(self, tmp_path, caplog):
        rows = [persona_row("m0", True, pair=0), persona_row("n0", False, pair=0)]
        rows += [persona_row("n1", False, pair=1), persona_row("m1", True, pair=1)]
        items = load_rows(tmp_path, rows).items
        found = [(a.statement, b.statement) for a, b in statement_pairs(items)]
        assert found == [("m0", "n0"), ("m1", "n1")] and not caplog.text
        assert len(statement_pairs(items[:3])) == 1 and "1 of 3 items" in caplog.text

    def test_without_pair_numbers_a_seeded_draw_uses_each_item_at_most_once(self, tmp_path, caplog):
        items = load_rows(tmp_path, [persona_row(f"s{i}", yes=i % 3 > 0) for i in range(30)]).items
        pairs, same, other = (statement_pairs(items, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert pairs == same != other
        assert all((a.positive_answer, b.positive_answer) == ("Yes", "No") for a, b in pairs)
        assert len(pairs) == 10 and len({item.id for pair in pairs for item in pair}) == 20
        assert "10 of 30 items" in caplog.text
        assert refused(statement_pairs, items).expected == "a numpy random generator, rng"

    def test_only_a_set_with_unequal_halves_says_so(self, tmp_path, caplog):
        load_dataset("narcissism")
        assert caplog.text == ""
        assert len(load_rows(tmp_path, [persona_row(str(n), yes=n > 0) for n in range(6)]).items) == 6
        assert "mine has 5 statements that match and 1 that do not" in caplog.text
        assert "4 are left out" in caplog.text

    def test_a_question_in_both_option_orders_counts_once(self, tmp_path, caplog):
        rows = [choice_row(), choice_row(" TEA or  soup?", ("soup", "Tea"), "BA"), choice_row("b?")]
        pairs = statement_pairs(load_rows(tmp_path, rows).items)
        assert [a.stem for a, _ in pairs] == ["Tea or soup?", "b?"] and all(a is b for a, b in pairs)
        assert not caplog.text

    @pytest.mark.parametrize("row", [choice_row(options=("", "x")), choice_row(""), choice_row(options="xx")])
    def test_questions_without_two_completions_are_left_out_and_counted_once(self, caplog, row):
        _left_out.cache_clear()
        assert len(statement_pairs(parse_rows([row, choice_row("b?")], "d"))) == 1  # the papers have some
        assert "d: 1 of 2 items" in caplog.text
        statement_pairs(parse_rows([row, choice_row("b?")], "d"))
        assert caplog.text.count("1 of 2") == 1
        # No pair at all is an error.
        items = parse_rows([persona_row("a"), persona_row("b")], "d")
        refused(statement_pairs, items, np.random.default_rng(0), said="found 2 items without such a pair")


ITEM, FIELDS = "a row with the fields of a persona or choice item", "a row with the fields question"


class TestBadFiles:
    @pytest.mark.parametrize(
        ("content", "expected", "found"),
        [
            (json.dumps(persona_row()) + "\n\n{oops\n", "JSON in line 3 of mine.jsonl", "'{oops'"),
            ("\n \n", "items in mine.jsonl", "none"),
            (b'{"question": "\xff"}', "UTF-8 text in mine.jsonl", "byte 14 that is not"),
            ([1], FIELDS, "[] in row mine/0000"),
            ({"statement": "x"}, ITEM, "answer_matching_behavior"),
            (persona_row() | {"question": None}, ITEM, "question"),
            (persona_row(pair="one"), ITEM, "pair"),
            (choice_row(options=("x",)), "exactly two options", "A in row mine/0000"),
            (choice_row(options=()), "exactly two options", "none in row mine/0000"),
            (choice_row(labels="CB"), "two different labels out of A, B", "'C' and 'B'"),
            (persona_row() | {"answer_matching_behavior": " Maybe"}, "out of Yes, No", "'Maybe'"),
            (persona_row() | {"answer_matching_behavior": " No"}, "out of Yes, No", "'No' and 'No'"),
            (persona_row("half a \ud800"), "text that UTF-8 can hold", "row mine/0000"),
            (persona_row(" \u2028"), "not empty", "row mine/0000"),
            ("[" * 99999, "JSON from line 1", "recursion"),
            ('{"pair": ' + "9" * 5000 + "}", "JSON from line 1", "digits"),
            ('{"pair": 1, "pair": 2}', "JSON from line 1", "'pair' twice"),
            # A line separator is none of JSON lines.
            (json.dumps(persona_row("a\u2028b"), ensure_ascii=False) + "\n{oops", "JSON in line 2", "{oops"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_a_flaw_is_named_with_its_row(self, tmp_path, content, expected, found):
        text = content if isinstance(content, (str, bytes)) else json.dumps(content)
        error = refused(load_text, tmp_path, text)
        assert expected in error.expected and found in error.found
        assert error.done == "The data set was not loaded." and error.next_step

    def test_a_json_file_must_hold_a_list_of_items(self, tmp_path):
        for text, found in {"[]": "none", "": "none", "{}": "none", '{"a": 1}': "a dict"}.items():
            error = refused(load_text, tmp_path, text, "mine.json")
            assert (error.expected, error.found) == ("items in mine.json", found)
        error = refused(load_text, tmp_path, '[\n{"a": 1},\n{"b" 2}]', "mine.json")
        assert error.expected == "JSON in line 3 of mine.json"
        assert error.found == "'{\"b\" 2}]' (Expecting ':' delimiter)"

    @pytest.mark.parametrize(
        ("rows", "problem"),
        [
            ([persona_row("a", pair=4)] * 3, "pair 4 with 3 rows"),
            ([persona_row("a", pair=4), persona_row("b", pair=4)], "pair 4 with two rows labelled Yes"),
            ([persona_row("a", pair=4), choice_row(pair=4)], "pair 4 with a persona and a choice item"),
            ([choice_row(pair=4)] * 2, "not one question in both orders"),
            ([choice_row(pair=4), choice_row("b?", ("soup", "tea"), pair=4)], "not one question in both"),
            ([choice_row(pair=4), choice_row(options=("soup", "tea"), pair=4)], "different texts labelled"),
        ],
    )
    def test_a_broken_pair_is_refused(self, tmp_path, rows, problem):
        error = refused(load_rows, tmp_path, rows)
        assert problem in error.found and "mine/0000" in error.next_step
        rows = [choice_row(pair=0), choice_row(options=("soup", "tea"), labels="BA", pair=0)]
        assert len(load_rows(tmp_path, rows).items) == 2  # a mirrored one is accepted

    def test_rows_that_repeat_an_earlier_one_are_said_and_mirrored_ones_are_none(self, tmp_path, caplog):
        load_rows(tmp_path, [choice_row(), choice_row(options=("soup", "tea"), labels="BA")])
        assert not caplog.text
        load_rows(tmp_path, [choice_row(), choice_row("b?"), choice_row(), choice_row("b?")])
        assert "2 of 4 rows repeat an earlier one, such as mine/0002 = mine/0000" in caplog.text

    def test_an_unknown_name_or_source_is_refused(self):
        error = refused(load_dataset, "caa/raw/refusal")
        assert "exists with source='papers'" in error.next_step
        assert refused(load_dataset, "narcissism", source="paper").found == "'paper'"


CONTENT = "".join(json.dumps(persona_row(f"s{i}", i % 2 == 0)) + "\n" for i in range(4)).encode()


def source(content: bytes = CONTENT, **about) -> Source:
    """An entry of the registry for a file with this content."""
    made = {"name": "tiny", "format": "persona", "url": "https://example.invalid/tiny.jsonl", "rows": 4}
    made |= {"path": "mwe/persona/tiny.jsonl", "licence": "CC-BY-4.0", "citation": "none"}
    return Source(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), **made | about)


TINY = source()


@pytest.fixture
def serve(monkeypatch):
    """`serve(content)` stands in for the network: it writes the content, or raises it; gives the addresses asked."""

    def install(content) -> list[str]:
        calls = []

        def download(url, output_file, pooch):
            calls.append(url)
            if isinstance(content, Exception):
                raise content
            Path(output_file).write_bytes(content)

        monkeypatch.setattr("pooch.HTTPDownloader", lambda timeout: download)
        return calls

    return install


class TestFetching:
    @pytest.fixture
    def cached(self, tmp_path) -> Path:
        return tmp_path / "cache" / "data" / TINY.path

    def test_a_file_is_fetched_once_then_read_from_the_cache(self, serve, cached):
        calls = serve(CONTENT)
        assert read_source(TINY) == CONTENT == read_source(TINY) == cached.read_bytes()
        assert calls == [TINY.url] and list(cached.parent.iterdir()) == [cached]
        # A damaged one is not opened but fetched anew.
        cached.write_bytes(b"damaged")
        assert read_source(TINY) == CONTENT == cached.read_bytes() and len(calls) == 2

    def test_a_download_that_is_not_the_file_is_deleted(self, serve, cached):
        serve(CONTENT.replace(b"s0", b"s9"))
        error = refused(read_source, TINY, said="another content .*The download was deleted")
        assert TINY.sha256 in error.expected and list(cached.parent.iterdir()) == []
        serve(CONTENT[:-10])
        said = f"{len(CONTENT)} bytes from {TINY.url}; .*was truncated.*partial file was deleted"
        refused(read_source, TINY, said=said)
        assert list(cached.parent.iterdir()) == []

    @pytest.mark.parametrize("failure", "ConnectionError Timeout HTTPError ChunkedEncodingError".split())
    def test_a_network_failure_says_what_to_do_without_one(self, serve, cached, failure):
        serve(getattr(requests.exceptions, failure)("no route"))
        error = refused(read_source, TINY)
        assert TINY.url in error.expected and failure in error.found
        assert error.done == "Nothing was kept in the cache."
        assert "STEERKIT_DATA" in error.next_step and "bundled" in error.next_step
        assert not cached.exists()

    @pytest.mark.parametrize("content", [CONTENT, OSError(28, "No space left on device")])
    def test_an_unwritable_cache_is_no_network_failure(self, serve, tmp_path, content):
        serve(content)
        if content == CONTENT:
            (tmp_path / "cache").write_text("")
        error = refused(read_source, TINY)
        assert "cache folder" in error.expected and "STEERKIT_CACHE" in error.next_step
        assert content == CONTENT or "No space left" in error.found

    def test_a_local_folder_is_read_and_nothing_is_fetched_nor_written(self, serve, tmp_path, monkeypatch):
        calls = serve(CONTENT)
        local = tmp_path / "local" / TINY.path
        error = refused(read_source, TINY, tmp_path / "local")
        assert str(local) in error.expected and TINY.url in error.next_step
        local.parent.mkdir(parents=True)
        local.write_bytes(CONTENT)
        assert read_source(TINY, tmp_path / "local") == CONTENT
        monkeypatch.setenv("STEERKIT_DATA", str(tmp_path / "local"))
        assert read_source(TINY) == CONTENT
        local.write_bytes(b"altered")
        assert "left alone" in refused(read_source, TINY).done and local.read_bytes() == b"altered"
        assert calls == [] and not (tmp_path / "cache").exists()


class TestRegistry:
    def test_every_entry_is_complete_and_pinned_and_no_two_share_a_path_or_a_hash(self):
        found = sources().values()
        for source in found:
            assert source.url.startswith("https://raw.githubusercontent.com/") and source.rows > 0
            commit = source.url.split("/")[5]
            assert len(commit) == 40 and set(commit) <= set("0123456789abcdef")
            assert len(source.sha256) == 64 and source.licence and "arXiv" in source.citation
        for what in ("path", "sha256"):
            assert len({getattr(source, what) for source in found}) == len(found)

    def test_the_forty_sets_of_tan_et_al_are_registered(self):
        assert len(names("tan")) == 40 == len(set(names("tan"))) and set(names("tan")) <= set(names("papers"))
        formats = Counter(sources()[name].format for name in names("tan"))
        assert formats == {"persona": 21, "choice": 18, "truthfulqa": 1}
        rows = sorted(sources()[name].rows for name in names("tan"))
        # 40 sets: 36 of 1000 less two short ones, two sycophancy sets, TruthfulQA (Tan et al. 2024).
        assert rows == [120, 468, 817, 934, *[1000] * 35, 1080]

    def test_more_options_are_read_where_the_registry_allows_them(self, serve, monkeypatch):
        """In survival and power-seeking only, as people wrote them."""
        many = {name for name, source in sources().items() if source.more_options}
        folders = ("human", "caa/raw", "caa/generate", "caa/test")
        assert many == {"human/power-seeking-inclination", *(f"{at}/survival-instinct" for at in folders)}
        content = (json.dumps(choice_row(options="stuv", labels="DA")) + "\n").encode()
        serve(content)
        entry = source(content, format="choice", more_options=True)
        monkeypatch.setattr(datasets, "sources", lambda: {"many": entry})
        data = load_dataset("many", source="papers")
        assert (data.source, data.licence, data.sha256) == ("papers", "CC-BY-4.0", entry.sha256)
        (item,) = data.items
        assert (item.positive_letter, item.matching_text, item.not_matching_text) == ("D", "v", "s")


@pytest.mark.skipif(not DATA, reason="STEERKIT_DATA does not point to a folder with the papers' files")
class TestPapersFiles:
    """The real files; run with STEERKIT_DATA=<folder laid out like the registry's paths>."""

    @pytest.mark.parametrize("name", list(sources()))
    def test_a_file_has_its_hash_size_and_rows_and_loads(self, name):
        """And a set of statements gets letters and answers crossed in quarters."""
        source = sources()[name]
        assert len(read_source(source, DATA)) == source.bytes
        items = load_dataset(name, "papers", DATA).items
        assert len(items) == source.rows
        if source.format == "persona":
            counts = Counter(zip(letters_of(items), (item.positive_answer for item in items), strict=True))
            assert set(counts.values()) == {len(items) // 4} or name not in names("tan")

    def test_no_bundled_sentence_is_one_of_the_papers(self):
        def texts(items) -> set[str]:
            """Long texts as letters and digits only, so punctuation cannot hide a copy."""
            raw = [text for i in items for text in (i.statement or i.stem, *(t for _, t in i.options))]
            keys = ("".join(char for char in text.casefold() if char.isalnum()) for text in raw)
            return {key for key in keys if len(key) > 25}

        known = set().union(*(texts(load_dataset(name, "papers", DATA).items) for name in sources()))
        assert not known & set().union(*(texts(load_dataset(name).items) for name in names("bundled")))


class TestWhatPeopleBring:
    """Files of spreadsheets, of pandas, of Windows; and sets that contradict themselves."""

    def test_byte_order_marks_are_skipped_wherever_files_were_put_together(self, tmp_path):
        lines = [json.dumps(choice_row(f"q{i}?")) for i in range(3)]
        given = {"mine.jsonl": "\ufeff" + "\r\n\ufeff".join(lines), "mine.json": f"\ufeff[{','.join(lines)}]"}
        for name, text in given.items():
            assert [item.stem for item in load_text(tmp_path, text, name).items] == ["q0?", "q1?", "q2?"]

    def test_null_and_nan_are_absent_and_a_whole_number_is_one_however_it_is_written(self, tmp_path):
        odd = [choice_row(f"q{i}?", statement=None, pair=pair) for i, pair in enumerate([None, float("nan")])]
        found = load_rows(tmp_path, odd).items
        assert [(item.kind, item.pair) for item in found] == [("choice", None)] * 2
        pairs = [persona_row("a", pair=3.0), persona_row("b", yes=False, pair=3)]
        assert [item.pair for item in load_rows(tmp_path, pairs).items] == [3, 3]
        for pair in (3.5, True, [3], "one"):
            assert "'pair'" in refused(load_rows, tmp_path, [persona_row(pair=pair)]).found

    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            ([choice_row(), choice_row("b?", ("tea", "Tea "))], "two different answers"),
            ([choice_row(), choice_row("b?", ("tea", ""))], "not empty"),
            ([choice_row(), choice_row(labels="BA")], "one label for 'Tea or soup?'"),
            ([choice_row(), choice_row(" tea OR\nsoup?", ("soup", "tea"))], "one label for"),
            ([persona_row(), persona_row(yes=False)], "one label for 'I like tea'"),
            ([persona_row(pair=0), persona_row(yes=False, pair=0)], "one label for 'I like tea'"),
            ([contrast("a", "b"), contrast("b", "a")], "one label for 'Go on.'"),
        ],
    )
    def test_a_set_that_contradicts_itself_is_refused_with_row_and_text(self, tmp_path, rows, expected):
        error = refused(load_rows, tmp_path, rows)
        assert expected in error.expected and "mine/0001" in error.found

    def test_a_positive_and_a_negative_answer_make_an_item_whose_letter_alternates(self, tmp_path):
        first, second = load_rows(tmp_path, [contrast("I sing", "I hum"), contrast("Yes!", "No!")]).items
        assert (first.stem, first.matching_text, first.not_matching_text) == ("Go on.", "I sing", "I hum")
        assert first.question == "Go on.\n\nChoices:\n (A) I sing\n (B) I hum"
        assert second.question == "Go on.\n\nChoices:\n (A) No!\n (B) Yes!" and second.positive_letter == "B"

    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    def test_a_table_of_two_or_three_columns_reads_like_rows(self, tmp_path, separator):
        lines = [("Prompt", "positive", " negative"), ("Go on.", '"a, ""b""; c\nd"', "e")]
        lines.append(("Stay.", "f", "g"))
        for columns in (lines, [line[1:] for line in lines]):
            text = "\ufeff" + "\r\n".join(map(separator.join, columns))
            first, second = load_text(tmp_path, text, "mine.CSV").items
            assert (first.matching_text, first.not_matching_text) == ('a, "b"; c\nd', "e")
            stems = ("Go on.", "Stay.") if columns is lines else 2 * ("Tell me something about yourself.",)
            assert (first.stem, second.stem) == stems

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("positive,negative\na,b,c\n", "row 0"),
            ("a,b\nc,d\n", "['a', 'b'] in row mine/0000"),
            ("positive,negative\n", "none"),
            ("prompt,positive,negative\na,b,c\n,d,e\n", "none in row mine/0001, and 1 without"),
            ('positive,negative\n"a,b\n', "Error"),
            ("positive,negative\na,\n", "row mine/0000"),
            ("positive,negative, Positive\na,b,c\n", "['positive', 'negative', 'positive']"),
        ],
    )
    def test_a_table_of_another_kind_is_refused(self, tmp_path, text, found):
        assert found in refused(load_text, tmp_path, text, "mine.csv").found
