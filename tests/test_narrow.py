"""Figures for a phone: stacked, named at every panel, and none where words have no room."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from companion.figures import narrow, paper, style

NAMES = ("openness", "anti-LGBTQ-rights", "myopic reward")


def panels(columns: int, words: str = "a data set", title: str = "ours") -> plt.Figure:
    with style.drawing(2.0, 1, columns, sharey=True, squeeze=False) as (figure, axes):
        for each in axes[0]:
            each.barh(range(3), [1, 2, 3], label=words)
            each.set_title(title)
        axes[0, 0].set_yticks(range(3), NAMES)
        style.legend(figure, [*axes[0, 0].containers, *axes[0, -1].containers])
    paper.sheet(figure)
    return figure


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_panels_stand_below_each_other_as_high_as_before_each_with_the_names_of_its_rows(columns, tmp_path):
    figure = panels(columns)
    assert narrow.save(figure, tmp_path / "a.png")
    assert tuple(figure.get_size_inches()) == pytest.approx((narrow.WIDTH, 2.0 * columns))
    corners = np.array([axes.get_position().bounds[:2] for axes in figure.axes])
    assert np.ptp(corners[:, 0]) < 0.01 and (np.diff(corners[:, 1]) < 0).all()
    for axes in figure.axes:
        assert [tick.label1.get_visible() for tick in axes.yaxis.get_major_ticks()] == [True] * 3
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == pytest.approx(narrow.WIDTH * style.RC["savefig.dpi"], abs=2)


@pytest.mark.parametrize("spoilt", [{"words": "a legend " * 12}, {"title": "a title that has no end " * 4}])
def test_where_words_have_no_room_or_panels_no_grid_there_is_none(spoilt, tmp_path):
    by_hand = plt.figure()
    by_hand.add_axes((0, 0, 1, 1))
    for figure in (panels(2, **spoilt), by_hand):
        assert not narrow.save(figure, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_phone_gets_the_narrow_one_where_there_is_one(tmp_path):
    finish = pytest.importorskip("_ext.finish")
    images = tmp_path / "site"
    for name, width in {"a": 300, "a-narrow": 40}.items():
        plt.imsave(tmp_path / f"{name}.png", np.zeros((7, width)))
    (tmp_path / "a.json").write_text(json.dumps({"narrow": True, "points": [[20, 5, "a"]]}))
    body = '<img alt="x" src="../_images/a1.png"/>'  # of another profile, whose figure has the same name
    found = finish.sized(body, {"a1.png": tmp_path / "a.png"}, images)
    narrowed = (
        '<picture><source media="(max-width: 600px)" srcset="../_images/a1-narrow.png" width="40" height="7">'
    )
    assert found.startswith(f'<span class="points">{narrowed}<img loading="lazy" width="300"')
    assert '/></picture><svg viewBox="0 0 300 7"' in found and (images / "a1-narrow.png").exists()
    (tmp_path / "a-narrow.png").unlink()  # results from elsewhere may lack it
    assert "<picture>" not in finish.sized(body, {"a1.png": tmp_path / "a.png"}, images)
