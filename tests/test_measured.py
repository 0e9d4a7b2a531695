"""The page on parity, and the committed record behind it."""

from __future__ import annotations

import json

import pytest
from _ext import measured

RECORD = {
    "command": "make test-ndif",
    "commit": "abc1234",
    "date": "2026-01-02",
    "model": "tiny",
    "dtype": "float32",
    "threads": 2,
    "versions": {"torch": "9.9"},
    "tests": 3,
    "seconds": 4,
    "operations": [
        {"operation": "sweep", "numbers": 12, "largest": 3.25, "gpu": None, "ndif": 2.4e-6, "tolerance": 1e-4}
    ],
    "sizes": [
        {
            "job": "sweep of 2",
            "request": 12345,
            "request_limit": 100_000,
            "response": 640,
            "response_limit": 20_048,
        }
    ],
    "times": [{"work": "grid", "local": 2.0, "ndif": 3.0, "aim": 1.5}],
}


def rows(page: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines() if "|" in line
    ]


def test_the_page_shows_every_number_of_the_record(tmp_path):
    path = tmp_path / "parity.json"
    path.write_text(json.dumps(RECORD))
    found = rows(measured.parity(path))
    assert ["sweep", "12", "3.25", "not run", "2.4e-06", "0.0001"] in found
    assert ["sweep of 2", "12.3 kB", "0.6 kB", "100 and 20.0 kB"] in found
    assert ["grid", "2.0 s", "3.0 s", "1.50", "1.5"] in found


def test_the_page_says_what_it_was_measured_with(tmp_path):
    path = tmp_path / "parity.json"
    path.write_text(json.dumps(RECORD))
    line = measured.parity(path).splitlines()[-1]
    for word in ("make test-ndif", "abc1234", "2026-01-02", "tiny", "float32", "2 threads", "torch 9.9"):
        assert word in line


def test_a_number_for_a_gpu_is_shown_when_there_is_one(tmp_path):
    path = tmp_path / "parity.json"
    path.write_text(json.dumps(RECORD | {"operations": [RECORD["operations"][0] | {"gpu": 0.25}]}))
    assert "not run" not in measured.parity(path) and "0.25" in measured.parity(path)


def test_without_a_record_the_page_says_so(tmp_path):
    assert "has not been run" in measured.parity(tmp_path / "parity.json")


@pytest.mark.skipif(not measured.PARITY.exists(), reason="make test-ndif has not been run for this copy")
class TestCommittedRecord:
    record = json.loads(measured.PARITY.read_text()) if measured.PARITY.exists() else {}

    def test_every_difference_is_within_its_tolerance(self):
        assert len(self.record["operations"]) >= 10
        for row in self.record["operations"]:
            assert row["ndif"] <= row["tolerance"] <= measured.TOLERANCE, row["operation"]

    def test_what_travels_is_within_its_limits(self):
        for row in self.record["sizes"]:
            assert row["request"] <= row["request_limit"] <= 100_000
            assert row["response"] <= row["response_limit"]

    def test_it_has_the_operations_that_the_book_promises(self):
        named = " ".join(row["operation"] for row in self.record["operations"])
        for word in (
            "extraction",
            "tree sweep",
            "sliding window",
            "sandboxed",
            "autoencoder",
            "generation",
            "session",
        ):
            assert word in named
