"""Letters and options: the unsteered propensity of every item in both orders of its options."""

from collections.abc import Mapping

import pandas as pd

from companion.figures import style
from companion.figures.style import Drawn
from companion.tan.binding import summary


def orders(runs: Mapping[str, pd.DataFrame]) -> Drawn:
    """A panel a model: items on the rising line keep their option, items on the falling one their letter.

    `runs` has `tan.binding.both_orders` of each model by its name.
    """
    found = {name: summary(both) for name, both in runs.items()}
    end = style.span([both[order].abs() for both in runs.values() for order in ("first", "other")])[1]
    square, words = (-end, end), []
    with style.drawing(3.1, 1, len(runs), sharex=True, sharey=True, squeeze=False) as (figure, panels):
        for axes, (name, both) in zip(panels[0], runs.items(), strict=True):
            axes.plot(square, square, color=style.GREEN, lw=1.2, label="same option")
            axes.plot(square, square[::-1], color=style.VERMILLION, lw=1.2, ls="--", label="same letter")
            look = {"s": 7, "alpha": 0.4, "lw": 0, "color": style.BLACK, "rasterized": True}
            axes.scatter("first", "other", data=both, **look)
            same, chance = (f"{100 * found[name][key]:.0f}%" for key in ("same_option", "chance"))
            words.append(f"{name} {same} (by chance {chance})")
            axes.set(title=f"{style.lines(name, 24)}\nsame option: {same}", xlim=square, ylim=square)
            axes.set_aspect("equal")
        panels[0, 0].set_ylabel("options exchanged (logits)")
        figure.supxlabel("propensity, unsteered, options in their first order (logits)", fontsize="medium")
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    table = pd.concat([both.assign(model=name) for name, both in runs.items()], ignore_index=True)
    alt = f"Items that keep their option when the options change places: {'; '.join(words)}."
    return Drawn(figure, table, alt)
