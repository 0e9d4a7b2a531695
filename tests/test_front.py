"""The start page: its sentences say what the tables say, whichever way these fall."""

from types import SimpleNamespace

import pandas as pd
import pytest
from _ext import front

from companion.tan.texts import PAIRS
from companion.verdicts import AGREES, DIFFERS, OPEN, OURS, UNSPECIFIC, UNTESTABLE


@pytest.fixture
def results(tmp_path):
    """Results of exhibits whose tables are written by hand."""

    def make(profile: str = "smoke", **tables: dict) -> list:
        found = []
        for name, columns in tables.items():
            exhibit, _, part = name.replace("_", "-").rpartition("--")
            pd.DataFrame(columns).to_csv(tmp_path / f"{exhibit}-{part}.csv", index=False)
            about = {"exhibit": SimpleNamespace(id=exhibit), "label": "A model, recorded"}
            found.append(SimpleNamespace(folder=tmp_path, profile=profile, **about))
        return found

    return make


# Rank correlations between models: of two pairs of them, and what three have alike.
KINDS = {"sets": "within kinds", "n": 40}
TWO = KINDS | {"pair": PAIRS[:2], "estimate": [0.9, 0.1], "disjoint": [0.7, None]}
TWO |= {"disjoint_ceiling": [0.8, None], "placebo_low": 0.1}
THREE = KINDS | {"disjoint": 0.7, "placebo_size": None}


def slopes(*wrong: float) -> dict:
    about = {"published_anti_steerable": 0.2, "mean": [1.0] * (len(wrong) - 1) + [-1.0]}
    return about | {"anti_steerable": wrong}


class TestFindings:
    @pytest.mark.parametrize(
        ("wrong", "title"), [((0.1, 0.3, 0.5), "backwards on many"), ((0.0, 0.0, 0.2), "nearly every")]
    )
    def test_reliability_is_told_by_the_median_set(self, results, wrong, title):
        said = front.findings(results(tan_fig_1__statement=slopes(*wrong)))
        assert said.startswith("1. **") and title in said and said.count("\n") == 0
        share = f"{100 * wrong[1]:.0f}% of the test items"
        assert all(
            part in said for part in ("A model (*statement*)", "2 of 3 data sets", share, "(paper: 20%)")
        )

    def test_and_says_how_much_of_it_is_no_accident_of_the_training_pairs(self, results, monkeypatch):
        row = {"claim": front.BACKWARDS.statement, "format": "statement", "verdict": DIFFERS}
        row |= {"model": "tiny", "ours": "mean share 0.05"}
        rows = pd.DataFrame([row | {"format": "letter", "ours": "x"}, row | {"model": "y", "ours": "y"}, row])
        monkeypatch.setattr(front.pages, "claims", lambda _: rows)
        tables = {"tan_fig_1__statement": slopes(0.1, 0.2), "tan_claims__claims": {"x": [1]}}
        said = front.findings(results(**tables))
        assert "vectors from redrawn pairs: on the bundled data mean share 0.05. [Reliability]" in said

    @pytest.mark.parametrize(
        ("verdict", "form", "title"),
        [
            (AGREES, "letter", "that of Llama-2-7b.**"),
            (UNSPECIFIC, "letter", "that of Llama-2-7b, and so does that of randomly labelled vectors.**"),
            (DIFFERS, "letter", ""),
            (AGREES, "statement", ""),
        ],
    )
    def test_the_order_is_told_beside_that_without_labels(self, results, monkeypatch, verdict, form, title):
        row = {"claim": front.ORDER.statement, "format": form, "verdict": verdict, "published": "0.7 over 38"}
        row |= {"model": "m-1 (papers' data)"}
        row |= {"ours": "0.8, the lesser of 0.8 and 0.9", "where false": "0.6 (0.7); at zero 0.8"}
        monkeypatch.setattr(front.pages, "claims", lambda _: pd.DataFrame([row]))
        said = front.findings(results(tan_claims__claims={"x": [1]}))
        assert title in said and ("between the papers' own two models, 0.7." in said) == bool(title)
        assert ("of m with it is 0.8; of randomly labelled vectors" in said) == bool(title)
        assert ("whichever way they steer, 0.6 (95% of them at most 0.7);" in said) == bool(title)

    @pytest.mark.parametrize(("high", "title"), [(0.2, "belongs to the text"), (0.75, "cannot be told")])
    def test_text_needs_an_interval_that_lies_below_what_disjoint_items_show(self, results, high, title):
        order = {"low": 0.0, "high": [0.95, high], "placebo": [0.6, 0.0], "placebo_high": 0.8}
        said = front.findings(results(tan_texts__order=TWO | order | {"placebo_size": 0.95}))
        words = [title, "order of 40 sets, within their kinds (ρ = 0.90", "agree with itself (ρ = 0.10"]
        words += ["per set they agree at 0.60 (0.10 to 0.80)", "and at 0.95 on how far"]
        for each in (*words, "mostly how easily a text is moved. One model"):
            assert each in said

    @pytest.mark.parametrize(
        ("low", "itself"),
        [((0.1, 0.1), "agrees"), ((0.1, -0.1), "may agree"), ((-0.1, -0.1), "is not shown to agree")],
    )
    def test_a_model_agrees_with_itself_where_every_model_does(self, results, low, itself):
        order = {"pair": [PAIRS[0], *PAIRS[1:2] * 2], "estimate": 0.2, "low": [0.1, *low], "high": 0.4}
        order |= {"placebo": 0.2, "placebo_low": 0.1, "placebo_high": 0.3}
        said = front.findings(results(tan_texts__order=THREE | order))
        assert f"the same concepts {itself} with itself (ρ = 0.20" in said and "on average" not in said

    def test_the_pair_of_models_that_has_a_null_is_told_first(self, results):
        order = {"pair": [PAIRS[0], PAIRS[0], PAIRS[1]], "placebo_low": 0.4, "placebo_high": 0.7}
        order |= {"estimate": [0.7, 0.9, 0.1], "low": [0.5, 0.8, -0.1], "high": [0.8, 0.95, 0.3]}
        said = front.findings(results(tan_texts__order=THREE | order | {"placebo": [None, 0.6, None]}))
        assert "(ρ = 0.90 [0.80, 0.95]; other pairs of models, or texts, 0.70)" in said

    def test_how_many_means_are_above_zero_for_certain_stands_beside_how_many_are(self, results):
        rows = {"model": ["A model", "A model", "other"], "format": "statement", "low": [0.1, -0.1, 0.2]}
        said = front.findings(results(tan_fig_1__statement=slopes(0.1, 0.3), tan_fig_1__intervals=rows))
        assert "in 1 of 2 data sets (surely in 1);" in said

    def test_all_sets_of_the_papers_data_are_told_beside_those_of_its_figure(self, results):
        every = {"anti_steerable": [0.1, 0.2, 0.6, 0.4], "published_anti_steerable": [0.3, 0.1, 0.2, None]}
        tables = {"tan_fig_1__statement": slopes(0.1, 0.3), "tan_app_fig_1__laptop_papers_statement": every}
        said = front.findings(results(profile="laptop", **tables))
        assert "Over all 4 sets of the papers' own data it is 30% (paper: 20%)." in said

    def test_what_a_coin_does_is_called_as_good_only_where_it_is(self, results):
        order = {"low": [0.7, 0.0], "high": [0.95, 0.2], "placebo": 0.2, "placebo_high": 0.85}
        said = front.findings(results(tan_texts__order=TWO | order | {"placebo_size": 0.4}))
        assert "(0.10 to 0.85), and at 0.40 on" in said and "mostly" not in said

    @pytest.mark.parametrize(
        ("shared", "null", "title"),
        [
            ("4 of 5", 4.5, "it ranks first in any vector so short"),
            ("5 of 5", 1.0, "sees less of a steering vector than"),
            ("1 of 5", 4.5, "sees more of a steering vector than"),
        ],
    )
    def test_the_autoencoder_is_told_by_what_it_says_of_placebos(self, results, shared, null, title):
        """On either side of nine in ten of them."""
        rows = {"source": ["published", "ours"], "also in zero": ["4 of 5", shared]}
        curve = {"what": ["label-shuffled"] * 2 + ["isotropic"] * 2, "norm": [1, 3] * 2, "vector_norm": 2}
        curve["shared"] = [null - 0.5, null + 0.5] * 2
        curve |= {"low": [null - 1] * 4, "high": [null + 1] * 4}
        tables = {"mayne_tab_1__statement_features": rows, "mayne_fig_2__statement_dose": curve}
        said = front.findings(results(**tables))
        assert (
            title in said
            and f"vector {shared[0]} are" in said
            and f"labelled vectors {null:.1f} (nine" in said
        )

    def test_what_no_run_tells_is_left_out_and_the_rest_is_numbered(self, results):
        assert front.findings([]) == ""
        few = KINDS | {"pair": PAIRS[:1], "n": 0, "estimate": None, "low": None, "high": None}
        said = front.findings(results(tan_texts__order=few, tan_fig_1__statement=slopes(0.1, 0.2)))
        assert said.startswith("1. **A vector that works")

    @pytest.mark.parametrize(
        ("shuffled", "title"), [(0.8, "; nearly as well, so does"), (0.3, ", better than")]
    )
    def test_what_carries_over_is_told_beside_vectors_without_labels(self, results, shuffled, title):
        rows = {"train": ["BASE", "BASE", "SYS_POS"], "test": "USER_NEG", "format": "letter"}
        rows |= {"model": ["a-1 (papers' data)", "b", "c"], "within_shuffled": shuffled}
        rows |= {"within": [0.9, 0.8, 0.9], "within_most": 0.85}
        rows |= {"kept": 1.0, "kept_shuffled": 0.9}
        said = front.findings(results(tan_fig_5__unlabelled=rows))
        assert f"another prompt{title} one that was labelled at random.**" in said and "in c" not in said
        told = f": 0.90 against {shuffled:.2f} in a (papers' data), *letter*; 0.80 against {shuffled:.2f} in b, *letter*"
        assert f"{told}, not beyond chance (paper, " in said
        assert "the vector keeps 100% against 90%, 100% against 90%." in said


@pytest.mark.parametrize("verdict", front.TOKENS)
def test_single_tokens_are_told_by_the_registered_verdict_beside_exchanged_answers(results, verdict):
    shares = {"sets": [60, 60], "share": [1.5, 0.9], "low": [1.2, 0.8], "high": [2, 1.1]}
    shares |= {"exchanged": [-0.002, 0.1], "exchanged_low": -0.2, "exchanged_high": 0.3}
    shares |= {"items": [0.1, 0.3], "items_low": 0.05, "items_high": 0.35, "model": ["a-1", "b"]}
    thirds = {"third": [1, 3, 3], "share": [-7.0, 1.9, 1.8]}
    tables = {"verdict": {"verdict": [verdict]}, "shares": shares, "thirds": thirds}
    said = front.findings(results(**{f"ext_unigram__{name}": table for name, table in tables.items()}))
    for part in (
        front.TOKENS[verdict],
        "1.50 [1.20, 2.00] (a) and 0.90 [0.80, 1.10] (b) ",
        "times as far as the vector (1.90 and 1.80 in the third",
        "randomly labelled answers 0.00 and 0.10 times",
        "effects correlate at 0.10 and 0.30.",
    ):
        assert part in said


@pytest.mark.parametrize("verdict", front.AUTHORS)
def test_several_authors_are_told_by_the_registered_verdict(results, verdict):
    both = {"pairs": ["known", "new"], "model": "a-1"}
    medians = both | {"median": [0.9, 0.5], "low": [0.8, 0.4], "high": [1, 0.6]}
    shares = both | {"concept": [0.3, 0.2], "concept_low": 0.0, "concept_high": 0.25}
    tables = {"medians": medians | {"others": [0.3, 0.1]}, "shares_intervals": shares}
    tables["verdict"] = {"pairs of authors": ["known", "new"], "verdict": ["undecided", verdict]}
    said = front.findings(results(**{f"ext_authors__{name}": table for name, table in tables.items()}))
    told = "0.20 [0.00, 0.25] (a)", "0.50 [0.40, 0.60] (a) of", "vectors of other concepts 0.10"
    for part in (front.AUTHORS[verdict], *told):
        assert part in said


def test_the_example_is_the_most_steerable_set_and_its_text_is_text(results):
    rows = {"dataset": ["a"] * 4 + ["b"], "steerable": ["most"] * 4 + ["least"]}
    rows |= {"multiplier": [-1.5, 0.0, 1.5, 3.0, 0.0], "surprise": 0.5}
    rows["text"] = ["[no](x)", "plain", "a | b", "left out", "not this"]
    said = front.example(results(tan_steered__texts=rows))
    for part in ("*a*", "| 0.0 | plain | 0.5 |", "| -1.5 | \\[no](x) |", "| 1.5 | a \\| b |"):
        assert part in said
    assert "left out" not in said and "not this" not in said
    assert front.example([]) == ""


def test_every_claim_is_counted_once_by_the_runs_that_can_test_it(monkeypatch):
    verdicts = {"holds": [AGREES, UNTESTABLE], "fails": [DIFFERS, OPEN], "both": [AGREES, DIFFERS]}
    verdicts |= {"open": [OPEN, UNTESTABLE], "closed": [UNTESTABLE], "holds too": [AGREES, OPEN]}
    verdicts |= {"of placebos too": [UNSPECIFIC, OPEN], "ours": [AGREES]}
    rows = pd.Series(verdicts, name="verdict").explode().rename_axis("claim").reset_index()
    rows["published"] = rows["claim"].map({"ours": OURS}).fillna("0.5")
    monkeypatch.setattr(front.pages, "claims", lambda _: rows)
    said = front.score([None])
    assert said.startswith("Of 7 claims") and "**1** hold in every run" in said
    assert said.endswith("1 more are this book's own.")
    agreed = "hold in some runs, and are undecided", "hold in number, and for placebos as much"
    for words in (*agreed, "hold in some runs and fail", "hold in none", "are open", "cannot be tested"):
        assert f"**1** {words}" in said
