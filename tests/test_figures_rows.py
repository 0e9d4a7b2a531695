"""The one look of all figures with rows: as high in each of them, every mark in its row, every label once."""

import numpy as np
import pandas as pd
import pytest
from drawn import bars_of, crowded, marks, segments, texts, ticks

from companion.figures import paper, rows, style

TABLE = pd.DataFrame({"estimate": [0.1, 0.5, -0.2], "low": [0.0, 0.4, -0.3], "high": [0.3, 0.6, 0.1]})
NAMES = ["openness", "anti-LGBTQ-rights", "myopic reward"]


def drawn(names=NAMES, panels=1, words="value", labels=("ours",), **how):
    with rows.drawing(names, panels, **how) as (figure, columns):
        for axes in columns:
            for label in labels:
                rows.points(axes, TABLE[rows.ESTIMATE], style.BLUE, label=label)
            axes.set_xlabel(words)
    paper.sheet(figure)
    return figure


def pitch(figure) -> float:
    """Inches from row to row."""
    (_, first), (_, second) = figure.axes[0].transData.transform([(0, 0), (0, 1)])
    return (first - second) / figure.dpi


def test_rows_are_as_high_whatever_stands_around_them_and_higher_where_names_or_marks_need_it():
    plain = drawn()
    labels = [f"a legend with many words, line {i}" for i in range(5)]
    full = drawn(panels=2, words="a long word\nin three\nlines", labels=labels)
    assert pitch(plain) == pytest.approx(pitch(full), rel=0.12) and crowded(full) == []
    assert pitch(drawn(["two\nlines", *NAMES[1:]])) > 1.3 * pitch(plain) < pitch(drawn(deep=5))


def test_a_mark_stands_in_the_row_of_its_index_on_its_interval_and_its_label_is_written_once():
    figure = drawn(panels=2)
    for axes in figure.axes:
        assert np.allclose(marks(axes, "ours"), [[0.1, 0], [0.5, 1], [-0.2, 2]])
        assert np.allclose([line[:, 0] for line in segments(axes)], TABLE[["low", "high"]])
    assert ticks(figure.axes[0]) == NAMES and figure.axes[0].get_ylim() == (2.5, -0.5)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ours"]
    assert [rows.shift(place, 3) for place in range(3)] == pytest.approx([-0.7 / 3, 0, 0.7 / 3])


def test_a_cloud_has_the_median_of_its_values_and_those_beyond_the_ends_stand_there():
    with rows.drawing(NAMES[:2]) as (_, [axes]):
        rows.cloud(axes, pd.Series([0.0, 1.0, 9.0, 2.0], [0, 0, 0, 1]), style.BLUE, "one", (0, 3))
    assert marks(axes, "one")[:, 0].tolist() == [0, 1, 3, 2]
    assert np.array_equal(marks(axes, "one")[:, 1].round(), [0, 0, 0, 1])
    assert marks(axes, "median").tolist() == [[1, 0], [2, 1]]


def test_parts_follow_each_other_and_those_below_zero_go_left():
    parts = pd.DataFrame({"a": [0.2, -0.1], "b": [0.3, 0.5], "c": [0.5, np.nan]})
    with rows.drawing(NAMES[:2]) as (_, [axes]):
        rows.stacks(axes, parts, dict.fromkeys("abc", style.BLUE), ("A", "B", "C"))
        rows.numbers(axes, pd.Series(["x"], [1]), "head")
    found = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars_of(axes)]
    assert np.allclose(found, [(0, 0.2), (0, -0.1), (0.2, 0.5), (0, 0.5), (0.5, 1), (0.5, 0.5)])
    assert texts(axes) == ["x", "head"] and axes.texts[0].get_position()[1] == 1
