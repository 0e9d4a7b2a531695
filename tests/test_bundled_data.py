"""The data sets shipped with the package are what their description promises."""

import csv
import hashlib
import re
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from statistics import median

import pytest
from conftest import letters_of

from companion import published
from companion.data.ask import statement_pairs
from companion.data.datasets import Item, load_dataset, names, personas
from companion.data.splits import make_split

BUNDLED = names("bundled")


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def sides(items: tuple[Item, ...]) -> tuple[list[str], list[str]]:
    """Matching and not matching texts, one a pair."""
    if items[0].kind == "persona":
        return tuple([i.statement for i in items if i.positive_answer == answer] for answer in ("Yes", "No"))
    firsts = [pair[0] for pair in statement_pairs(items)]
    return [item.matching_text for item in firsts], [item.not_matching_text for item in firsts]


def near_duplicates(texts: dict[tuple[str, int, str], str], threshold: float) -> list[tuple]:
    """Keys of texts of different pairs whose 3-gram Jaccard similarity exceeds `threshold`."""
    spelled = {key: words(text) for key, text in texts.items()}
    grams = {k: {tuple(s[i : i + 3]) for i in range(max(1, len(s) - 2))} for k, s in spelled.items()}
    holders = defaultdict(list)
    for key, found in grams.items():
        for gram in found:
            holders[gram].append(key)
    pairs = (pair for keys in holders.values() for pair in combinations(keys, 2))
    shared = Counter((a, b) for a, b in pairs if a[:2] != b[:2])
    return [(a, b) for (a, b), n in shared.items() if n / (len(grams[a]) + len(grams[b]) - n) > threshold]


@pytest.mark.parametrize("name", BUNDLED)
class TestEverySet:
    def test_it_has_sixty_pairs_in_order_with_labels_and_letters_balanced_in_every_part(self, name):
        items = load_dataset(name).items
        assert [item.pair for item in items] == [i // 2 for i in range(120)]
        counts = Counter(zip(letters_of(items), (item.positive_answer for item in items), strict=True))
        assert set(counts.values()) == {120 // len(counts)}
        assert len(counts) == (4 if items[0].kind == "persona" else 2)
        first = [item.positive_answer == "Yes" or item.positive_letter == "A" for item in items[::2]]
        assert first == [pair % 2 == 0 for pair in range(60)]  # half begin with the matching side
        split = make_split(load_dataset(name))
        for part in (split.train, split.val, split.test):
            for labels in (letters_of([items[i] for i in part]), [items[i].positive_answer for i in part]):
                assert len(set(Counter(labels).values())) == 1

    def test_its_texts_are_plain_one_a_pair_and_neither_side_is_longer(self, name):
        both = sides(load_dataset(name).items)
        for text in (text for side in both for text in side):
            assert text == text.strip() and not re.search(r'["\n\u2018\u2019\u201c\u201d]', text)
        matching, not_matching = (median(len(words(text)) for text in side) for side in both)
        assert 0.8 <= matching / not_matching <= 1.25 and list(map(len, both)) == [60, 60]

    def test_a_statement_is_spelled_and_a_choice_has_a_mirrored_partner(self, name):
        items = load_dataset(name).items
        for item in items:
            if item.kind == "persona":
                asked = f'Is the following statement something you would say?\n"{item.statement}"'
            else:
                (_, a), (_, b) = item.options
                asked = f"{item.stem}\n\nChoices:\n (A) {a}\n (B) {b}" if a and b else None
            assert item.question == asked
        for first, second in zip(items[::2], items[1::2], strict=True):
            if first.kind == "choice":
                assert first.stem == second.stem and first.matching_text == second.matching_text
                assert [text for _, text in first.options] == [text for _, text in second.options][::-1]
                assert {first.positive_letter, second.positive_letter} == {"A", "B"}


def test_no_two_pairs_within_or_across_sets_are_near_duplicates():
    assert set(published.SELECTED) <= set(BUNDLED) <= set(names("papers"))  # under the papers' names
    texts = {}
    for name in BUNDLED:
        items = load_dataset(name).items
        for item in items[:: 2 if items[0].kind == "choice" else 1]:
            for part, text in (("q", item.statement or item.stem), *item.options):
                texts[name, item.pair, part + item.positive_answer] = text
    assert not near_duplicates(texts, 0.5)
    (first, text), *_ = texts.items()  # a planted one is found
    assert near_duplicates(texts | {("b", 5, "q"): text + " Or so."}, 0.5) == [(first, ("b", 5, "q"))]


def read_pairs() -> dict[tuple[str, int], dict[str, str]]:
    """What the readers of the pairs wrote down, by data set and pair."""
    with (Path(__file__).with_name("reading_log.csv")).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["dataset", "pair", "texts", "reading", "note"]
    found = {(row["dataset"], int(row["pair"])): row for row in rows}
    assert len(found) == len(rows)  # no pair twice
    return found


def fingerprints(name: str) -> dict[tuple[str, int], str]:
    """The beginning of the sha256 of each pair's texts, as a reader saw them."""
    found = {}
    for matching, not_matching in statement_pairs(load_dataset(name).items):
        texts = (matching.statement, not_matching.statement)
        if matching.kind == "choice":
            texts = (matching.stem, matching.matching_text, matching.not_matching_text)
        found[name, matching.pair] = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:10]
    return found


class TestReading:
    """Every pair was read by somebody who did not write it and said which side shows the behaviour."""

    def test_every_pair_was_read_as_it_is_now(self):
        written = {key: row["texts"] for key, row in read_pairs().items()}
        assert written == {key: found for name in BUNDLED for key, found in fingerprints(name).items()}

    def test_at_most_one_reading_in_a_hundred_differs_from_the_label_and_says_why(self):
        readings = Counter(row["reading"] for row in read_pairs().values())
        assert set(readings) <= {"agrees", "differs"} and readings["differs"] <= 0.01 * readings.total()
        assert all(row["note"] for row in read_pairs().values() if row["reading"] == "differs")


class TestPersonaSentences:
    OURS = tuple(personas(name) for name in BUNDLED)

    @pytest.mark.parametrize("name", BUNDLED)
    def test_they_are_two_plain_sentences_of_similar_length_to_the_model(self, name):
        positive, negative = personas(name)
        assert positive != negative and 0.6 <= len(positive) / len(negative) <= 1.7
        for sentence in (positive, negative):
            assert sentence.isascii() and sentence == sentence.strip() and "\n" not in sentence
            assert sentence.endswith(".") and "you" in words(sentence)

    def test_none_serves_twice_or_is_a_sentence_of_the_paper(self):
        assert len({text for pair in self.OURS for text in pair}) == 2 * len(BUNDLED)
        theirs = {" ".join(words(text)) for name in names("tan") for text in published.personas(name)}
        ours = {" ".join(words(text)) for pair in self.OURS for text in pair}
        assert len(theirs) > 40 and not ours & theirs
