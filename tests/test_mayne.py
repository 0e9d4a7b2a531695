"""The runs and tables of Mayne et al.: activations against plain forwards, features against the formula, claims."""

import json
from dataclasses import replace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import refused
from saved_sae import save_sae
from torch.testing import assert_close

from companion import claims_mayne, models, store, verdicts
from companion.cli import own
from companion.data import plain_text
from companion.data.splits import groups_of
from companion.exhibits import NOTEBOOKS
from companion.mayne import activations as mayne
from companion.mayne import decompositions, encoder, features, layers, meanings
from companion.mayne.activations import Contrast
from companion.mayne.baselines import reconstruct, reconstruction_curve
from companion.mayne.solvers import METHODS
from companion.profiles import load_profile
from companion.saes import SCOPE_NAMES, tiny_sae
from companion.tan import jobs, work
from steerkit import SteerkitError, Vectors, decompose, evaluate, slopes, top_features
from steerkit.extraction import differences, mean_difference, shuffled
from steerkit.sae import Sae

FORMATS = ("statement", "letter")


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """One artefact folder for this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEERKIT_ARTIFACTS", str(tmp_path_factory.mktemp("mayne")))
        yield


@pytest.fixture(scope="module", params=FORMATS)
def case(request):
    return mayne.case(load_profile("smoke"), answer_format=request.param)


@pytest.fixture(scope="module")
def statement():
    return mayne.case(load_profile("smoke"))


def options(case, **changed) -> decompositions.Options:
    return decompositions.Options(5.0, **{"n_features": 8, "resamples": 3, **changed})


def hidden(model, tokens: list[int], layer: int) -> torch.Tensor:
    """The residual stream after a block as transformers gives it, [s, d]."""
    with torch.no_grad():
        found = model.lm._module(torch.tensor([tokens]), output_hidden_states=True)
    return found.hidden_states[layer + 1][0]


class TestCase:
    def test_the_autoencoder_and_its_layer_are_the_models(self, case):
        assert (case.sae_name, case.layer, case.dataset) == ("tiny", 2, "corrigible-neutral-HHH")

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"layer": 1}, "block 1"),
            ({"sae": "nowhere"}, "found 'nowhere'"),
            ({"dataset": "corrigible"}, "a data set"),
            ({"answer_format": "word"}, "an answer format"),
        ],
    )
    def test_what_does_not_fit_is_one_clear_error(self, given, message):
        refused(mayne.case, load_profile("smoke"), said=message, **given)

    def test_everything_that_decides_numbers_is_in_the_key(self, statement):
        others = [replace(statement, format="letter"), replace(statement, layer=1), statement.of("openness")]
        changed = (replace(statement.settings, **{name: 3}) for name in ("seed", "train"))
        others += [replace(statement, settings=settings) for settings in changed]
        keys = {store.key(mayne.inputs_of(each, "answers")) for each in (statement, *others)}
        assert len(keys) == 6
        assert store.key(mayne.inputs_of(statement, "values")) not in keys

    def test_caa_trains_and_tests_on_files_of_its_own(self, monkeypatch, statement):
        monkeypatch.setitem(mayne.CAA_PARTS, "caa/two", ("openness", "narcissism"))
        both = statement.of("caa/two")
        train, test = mayne.examples(both, models.model_of("tiny"))
        assert {e.id.partition("/")[0] for e in train} == {"openness"} and len(train) == 4 // 2
        assert {e.id.partition("/")[0] for e in test} == {"narcissism"}
        assert len(mayne.example_groups(both, [e.id for e in test])) == len(test)
        assert mayne.inputs_of(both, "x")["data_sha256"].count(" ") == 1


class TestContrast:
    def test_the_mean_difference_is_the_vector_of_the_main_protocol(self, case):
        found = mayne.contrast(case)
        train, _ = jobs.examples(case.job, models.model_of("tiny"))
        expected = work.vectors_of(case.job, [case.layer], train).select(["full"]).at(case.layer)[0]
        assert_close(found.vector, expected, atol=2e-6, rtol=1e-5)

    def test_activations_are_those_of_a_plain_forward(self, case):
        found, model = mayne.contrast(case), models.model_of("tiny")
        train, _ = jobs.examples(case.job, model)
        for i, example in enumerate(train):
            start = len(example.prompt) + len(example.lead)
            for side, answer in enumerate((example.matching, example.not_matching)):
                whole = hidden(model, [*example.prompt, *example.lead, *answer], case.layer)[start:]
                assert_close(found.means[i, side], whole.mean(0), atol=1e-5, rtol=1e-5)
                count = mayne.ANSWER_TOKENS if case.format == "statement" else 1
                assert found.parts.shape[2] == count
                places = [int((j + 0.5) * len(whole) / count) for j in range(count)]  # evenly spread
                assert_close(found.parts[i, side], whole[places], atol=1e-5, rtol=1e-5)

    def test_the_second_time_it_is_read(self, case, monkeypatch):
        first = mayne.contrast(case)
        monkeypatch.setattr(work, "model_of", lambda *_: pytest.fail("computed again"))
        assert torch.equal(mayne.contrast(case).parts, first.parts)

    def test_groups_are_drawn_whole(self):
        values = torch.arange(12.0).reshape(6, 2)
        both = torch.stack([values, -values], dim=1)
        drawn = Contrast(both, both[:, :, None], np.array([0, 0, 1, 1, 2, 2]), {}).resamples(20)
        for each in drawn:
            firsts = each.positive[:, 0].tolist()
            assert len(firsts) == 6 and each.negative[:, 0].tolist() == [-x for x in firsts]
            assert [int(x) // 4 for x in firsts] == list(each.groups)
            assert all(firsts.count(4 * g) == firsts.count(4 * g + 2) for g in range(3))
        assert len({tuple(each.groups) for each in drawn}) > 5


class TestPlain:
    def test_values_are_those_of_a_plain_forward_without_first_positions(self, statement):
        found, model = mayne.plain(statement, 40), models.model_of("tiny")
        text = plain_text.plain_text(40, statement.dataset, "", statement.settings.seed).text
        window = plain_text.windows(model, text, 40)[0].tolist()
        whole = hidden(model, window, statement.layer)[1:]
        assert len(found.norms) == len(found.values) == 40
        assert_close(found.values, whole[:40], atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(found.norms, found.values.norm(dim=1), rtol=1e-6)

    def test_only_so_many_values_are_kept(self, statement, monkeypatch):
        monkeypatch.setattr(mayne, "VALUES", 30)
        found = mayne.plain(statement, 300)
        assert (len(found.norms), len(found.values)) == (300, 30)
        np.testing.assert_allclose(found.norms[:30], found.values.norm(dim=1), rtol=1e-6)

    def test_the_analysed_set_is_left_out(self):
        own = " ".join((jobs.dataset_of("openness", "bundled").items[0].statement or "").split())
        assert own in set(plain_text._bundled("narcissism"))
        assert own not in set(plain_text._bundled("openness")) | set(plain_text._bundled("caa/raw/openness"))

    def test_texts_that_nothing_was_trained_on_come_first_and_others_follow_when_they_are_used_up(self):
        few, more, many = (plain_text.plain_text(count) for count in (100, 30_000, 150_000))
        assert few.origin == "our own prose and comments of the Python library"
        assert more.origin.endswith("docstrings of the Python library")
        assert many.origin.endswith("bundled data sets") and len(many.text) > 10**6
        assert len(few.text) == 100 * plain_text.LETTERS
        trained_on = "\n".join(" ".join(text.split()) for text in plain_text._docstrings())
        repeated = [text for text in plain_text._comments() if text in trained_on]
        assert len(repeated) < 0.01 * len(list(plain_text._comments()))

    def test_a_file_of_the_users_replaces_it(self, tmp_path, statement):
        (path := tmp_path / "mine.txt").write_text("I like music. " * 200)
        assert plain_text.plain_text(9, path=str(path)).text == ("I like music. " * 200)[:72]
        found = mayne.plain(statement, 20, str(path))
        assert found.origin == "mine.txt" and len(found.norms) == 20

    @pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe\x00"])
    def test_a_file_without_text_is_refused(self, tmp_path, content):
        path = tmp_path / "mine.txt"
        if content is not None:
            path.write_bytes(content)
        refused(plain_text.plain_text, 5, path=str(path), said=r"text (file in UTF-8 at|in) .*mine\.txt")

    def test_windows_start_with_the_beginning_of_sequence_where_the_template_has_one(self):
        model = models.model_of("tiny")
        with_start = replace(model, template=replace(model.template, bos=True))
        without = replace(model, template=replace(model.template, bos=False))
        text = "I like music and walking. " * 100
        one, other = (plain_text.windows(each, text, 200, 16) for each in (with_start, without))
        assert one.shape[1] == other.shape[1] == 16 and one.shape[0] == 14
        assert set(one[:, 0].tolist()) == {model.tokenizer.bos_token_id}
        assert one[:, 1:].flatten().tolist()[:40] == other.flatten().tolist()[:40]
        refused(plain_text.windows, without, "I", 5, said="a text of more than 1 tokens")


class TestMeanings:
    def test_the_places_are_those_of_a_search_token_by_token(self, statement):
        text = mayne.plain(statement)
        features = top_features(statement.sae, text.values.mean(0), 4).feature.tolist()
        found = meanings.top_texts(statement, text, features, 3)
        model = models.model_of("tiny")
        source = plain_text.plain_text(400, statement.dataset).text
        tokens = plain_text.windows(model, source, 400)
        for feature in features:
            best = {}  # of each window its most active token
            for at, value in enumerate(statement.sae.encode(text.values)[:, feature].tolist()):
                window, place = divmod(at, tokens.shape[1] - 1)
                if value > best.get(window, (0, 0))[0]:
                    token = model.tokenizer.decode(tokens[window, place + 1 : place + 2])
                    best[window] = (value, token.strip())
            rows = found[found["feature"] == feature]
            wanted = sorted(best.values(), reverse=True)[:3]
            assert rows["activation"].tolist() == pytest.approx([value for value, _ in wanted])
            said = [text.partition("«")[2].partition("»")[0].strip() for text in rows["text"]]
            assert said == [token for _, token in wanted]

    def test_a_feature_that_never_fires_has_no_row_and_another_text_is_refused(self, statement, tmp_path):
        text = mayne.plain(statement)
        quiet = replace(text, values=-1e3 * statement.sae.W_enc[:, 3].expand(4, -1))
        assert meanings.top_texts(statement, quiet, [3]).empty
        (tmp_path / "own.txt").write_text("I love the sea and the people. " * 40)
        own = mayne.plain(statement, path=str(tmp_path / "own.txt"))
        refused(meanings.top_texts, statement, own, [3], said=r"plain text of the package; found own\.txt")


def contrast_of(positive: torch.Tensor, negative: torch.Tensor) -> Contrast:
    """One token an answer."""
    both = torch.stack([positive, negative], dim=1)
    return Contrast(both, both[:, :, None], np.arange(len(both)), {})


def known() -> tuple[Sae, Contrast]:
    """Feature 1 is the partner of feature 0; negatives show feature 0, nobody shows 1; feature 2 is the default."""
    axes, generator = torch.eye(4), torch.Generator().manual_seed(0)
    rows = torch.stack([axes[0], -0.8 * axes[0] + 0.6 * axes[1], axes[2], axes[3]])
    bias = torch.tensor([-0.5, 0.1, 9.0, -1.0])
    sae = Sae(rows.T.contiguous(), bias, rows, torch.zeros(4), "relu", False)
    noise = 0.01 * torch.randn(5, 4, generator=generator)
    negative = torch.tensor([[3.0, 0, -9, 0]]).repeat(5, 1) + noise
    return sae, contrast_of(negative - axes[0], negative)


def pair_of(answers: Contrast, sae: Sae, **given: float) -> tuple[int, int] | None:
    """The pair that all groups choose."""
    found = features.opposites(answers, sae, 9.0)
    best = found.chosen(slice(None), **given)
    return None if best is None else tuple(found.pairs[:, best].tolist())


def cells(name: str, **parameters) -> dict:
    """What the cells of a notebook leave behind, with these parameters and the tiny model."""
    names: dict = {}
    for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            if "parameters" in cell.metadata.get("tags", []):
                names |= {"profile": "smoke", **parameters}
    return names


class TestFeatures:
    def test_the_truly_negative_feature_and_the_spurious_one_are_found_by_the_rule(self):
        sae, answers = known()
        assert pair_of(answers, sae) == (0, 1)
        found = features.pair_numbers(answers, sae, 9.0, (0, 1)).set_index("feature").T
        negative, spurious = found["truly negative"], found["spurious"]
        assert negative["projection of the vector"] == pytest.approx(-1, abs=1e-5)
        assert negative["activation of the vector"] == 0 and negative["active on negative answers"] == 1
        assert spurious["projection of the vector"] == pytest.approx(0.8, abs=1e-5)
        assert pair_of(contrast_of(answers.negative, answers.positive), sae) is None
        assert pair_of(answers, sae, often=1.1) is None
        assert pair_of(answers, sae, rarely=-0.1) is None
        assert spurious["activation of the vector"] == pytest.approx(0.9, abs=1e-5)
        assert spurious["scaled vector, pre-activation"] == pytest.approx(0.1 + 9 * 0.8, abs=1e-4)
        assert spurious["cosine, encoder"] == pytest.approx(-0.8) == spurious["cosine, decoder"]
        assert spurious["active on positive answers"] == spurious["active on negative answers"] == 0

    @pytest.mark.parametrize(("cosine", "expected"), [(0.49, (0, 1)), (0.6, (3, 4))])
    def test_the_pair_is_the_one_that_carries_most_over_of_those_that_are_opposite(self, cosine, expected):
        """Feature 3 has the larger negative part, but only a cosine below -0.5 makes 4 its opposite."""
        sae, answers = known()
        negative = answers.negative + torch.tensor([0, 0, 0, 9.0])
        larger = contrast_of(negative - torch.tensor([1.0, 0, 0, 5]), negative)
        row = torch.tensor([[0.0, (1 - cosine**2) ** 0.5, 0.0, -cosine]])
        rows, bias = torch.cat([sae.W_dec, row]), torch.cat([sae.b_enc, torch.tensor([-0.1])])
        more = Sae(rows.T.contiguous(), bias, rows, torch.zeros(4), "relu", False)
        assert pair_of(larger, more) == expected

    @pytest.mark.parametrize("form", FORMATS)
    def test_the_cells_of_figure_4_and_the_claim_follow_one_rule(self, tmp_path, monkeypatch, form):
        monkeypatch.setenv("STEERKIT_OUT", str(tmp_path))
        names = cells("mayne-fig-4", answer_format=form, train=8)
        pairs, chosen = names["pairs"], features.CHOOSE
        assert_close(names["carried"], pairs.qualifying(chosen))
        assert not (names["carried"] > 0).any() or int(names["carried"].argmax()) == pairs.chosen(chosen)
        other = cells("mayne-fig-4", answer_format=form, often=1.1)
        gap = (tmp_path / f"mayne-fig-4-{form}-gap.csv").read_text()
        assert not (other["carried"] > 0).any() and "at least 110%" in gap

    def test_the_default_component_is_a_projection_and_a_constant(self, tmp_path, monkeypatch):
        monkeypatch.setenv("STEERKIT_OUT", str(tmp_path))
        names = cells("mayne-fig-3")
        answers, plain, sae = names["answers"], names["plain"], names["case"].sae
        assert names["chosen"] == int(features.at_zero(sae).argmax()) == 0
        assert float(names["at_zero"][0]) == pytest.approx(9) and features.threshold(sae, 0) > 0
        found = {what: values.numpy() for what, values in names["projections"].items()}
        pre = sae.pre_activations(answers.positive)[:, 0].numpy()
        np.testing.assert_allclose(found["positive"] + 9, pre, atol=1e-4)
        assert len(found["plain text"]) == len(plain.values)
        ratio = np.median(plain.norms) / answers.vector.norm().item()
        assert found["vector, scaled"][0] / found["vector"][0] == pytest.approx(ratio, rel=1e-3)


class TestDecompositions:
    def test_curves_are_those_of_the_library_with_intervals_around_resamples(self, statement):
        found, contrast = decompositions.curves(statement, options(statement)), mayne.contrast(statement)
        extras = {"target_norm": 5.0, "positive": contrast.positive, "negative": contrast.negative}
        expected = reconstruction_curve(contrast.vector, statement.sae, METHODS, [1, 2, 4, 8], **extras)
        own = found[found["method"].isin(METHODS)].reset_index(drop=True)
        pd.testing.assert_frame_equal(own[["method", "n_features", "explained", "cosine"]], expected)
        resampled = (each.vector for each in contrast.resamples(3))
        curves = [reconstruction_curve(v, statement.sae, ["signed-pursuit"], [8]) for v in resampled]
        drawn = [curve["explained"].iloc[0] for curve in curves]
        row = own[(own["method"] == "signed-pursuit") & (own["n_features"] == 8)].iloc[0]
        assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
        assert len(found) == 4 * (len(METHODS) + 2)

    def test_steering_vectors_are_the_vector_what_is_left_of_it_and_baselines(self, statement):
        own = decompositions.steering_vectors(statement, options(statement))
        vector = own["original vector"]
        assert_close(own["autoencoder"], statement.sae.decode(statement.sae.encode(vector)))
        assert float(own["autoencoder"].norm()) > 2 * float(vector.norm())
        assert float(own["random vector"].norm()) == pytest.approx(float(vector.norm()), rel=1e-5)
        answers = mayne.contrast(statement)
        whole = (statement.sae.encode(answers.positive) - statement.sae.encode(answers.negative)).mean(0)
        assert_close(own["encode-difference, all features"], whole @ statement.sae.W_dec)

    @pytest.mark.parametrize("rescale", [False, True])
    def test_behaviour_of_a_sum_is_what_the_direct_engine_finds_at_either_length(
        self, rescale, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("STEERKIT_OUT", str(tmp_path))
        few = {"features": 300, "resamples": 2, "methods": "encode,signed-pursuit", "tokens": 40}
        names = cells("mayne-ext-decompose", **few, rescale=rescale)  # it has 256
        case, option, model = names["cases"][0], names["options"][0], models.model_of("tiny")
        shown = pd.read_csv(tmp_path / "mayne-ext-decompose-statement-behaviour.csv").set_index("vector")
        vector = mayne.contrast(case).vector
        left = reconstruct(decompose(vector, case.sae, "encode", option.n_features), case.sae)
        longer = vector.norm() / left.norm() if rescale else 1.0
        both = Vectors(("a", "b"), (case.layer,), torch.stack([vector, longer * left])[:, None])
        _, test = jobs.examples(case.job, model)
        grid = evaluate(model, test, both, mayne.MULTIPLIERS, engine="direct")
        means = slopes(grid.table("x")).groupby("vector")["steerability"].mean()
        rows = shown.loc[["original vector", "encode"]]
        assert rows["estimate"].tolist() == pytest.approx([means["a"], means["b"]], abs=1e-5)
        assert rows["difference"].tolist() == pytest.approx([0, means["b"] - means["a"]], abs=1e-5)
        assert rows["norm"].tolist() == pytest.approx([1, float(left.norm() / vector.norm())], rel=1e-4)
        assert (shown["low"] <= shown["estimate"]).all() and (shown["estimate"] <= shown["high"]).all()
        assert shown.loc["original vector", ["cosine", "share", "items"]].tolist() == pytest.approx([1] * 3)

    def test_stability_has_a_row_a_method_and_both_baselines(self, statement):
        found = decompositions.stability(statement, options(statement)).set_index("method")
        assert list(found.index)[: len(METHODS)] == list(METHODS) and len(found) == len(METHODS) + 2
        assert found["jaccard"].between(0, 1).all() and found.loc["encode", "jaccard"] > 0.9
        assert ((found["low"] <= found["jaccard"]) & (found["jaccard"] <= found["high"])).all()

    def test_unknown_methods_and_too_many_features_are_refused(self, statement):
        assert decompositions.parse_methods(" nnls, lasso") == ("nnls", "lasso")
        assert decompositions.parse_methods("") == tuple(METHODS)
        refused(decompositions.parse_methods, "nls", said="found 'nls'")
        with pytest.raises(SteerkitError, match="between 1 and 256 features"):
            decompositions.curves(statement, options(statement, n_features=257))
        assert decompositions.options(statement, 1.0, 500).n_features == 256
        assert options(None, n_features=11).counts == [1, 2, 4, 8, 11]


class TestClaims:
    def test_a_row_a_claim_in_the_form_of_the_other_claims(self, statement):
        found = claims_mayne.table(statement.settings)
        assert list(found.columns) == verdicts.COLUMNS
        assert len(found) == len(claims_mayne.CLAIMS) == 7 and found["id"].is_unique
        assert set(found["verdict"]) <= set(verdicts.VERDICTS)
        assert set(found["answer_format"]) == {"statement"}
        assert found["exhibit"].str.startswith("mayne-").all()
        assert (found.loc[found["verdict"] == verdicts.AGREES, "false_agree"] <= verdicts.MOST).all()
        bias = found.set_index("id").loc["bias-dominates"]  # so it does in the tiny one, whatever the vector
        assert bias["verdict"] == verdicts.UNSPECIFIC and bias["false_agree"] > 0.5

    @pytest.mark.parametrize("own", [False, True])
    def test_verdicts_stand_side_by_side_the_judged_autoencoder_first(self, statement, tmp_path, own):
        given = str(tmp_path / "sae") if own else ""
        if own:
            save_sae(statement.sae, tmp_path / "sae")
        judged = claims_mayne.table(statement.settings, sae=given)
        found = claims_mayne.by_autoencoder(statement.settings, judged, "statement", given)
        named = [*([given] if own else []), "tiny"]  # the same weights
        assert list(found.columns) == ["statement", *named, claims_mayne.DEALT] and len(found) == 7
        assert all((found[name] == judged["verdict"] + ": " + judged["ours"]).all() for name in named)


class TestLayers:
    def test_a_layers_slope_is_what_small_steps_along_its_own_vector_give(self, case):
        found, model = layers.by_layer(case), models.model_of("tiny")
        assert found["layer"].tolist() == list(range(len(model.layers))) and found["n"].nunique() == 1
        train, test = jobs.examples(case.job, model)
        one = mean_difference(differences(model, train, [1]), [1])
        # A central difference, in float32: small enough to be a slope, large enough to be more than rounding.
        grid = evaluate(model, test, one, [-0.25, 0.25], layers=[1], fidelity=case.settings.fidelity)
        expected = slopes(grid.table("x"))["steerability"].mean()
        assert found["behind"].min() == 0 == found.loc[found["mean"].idxmax(), "behind"]
        np.testing.assert_allclose(found["behind"], found["mean"].max() - found["mean"], atol=1e-6)
        row = found.set_index("layer").loc[1]
        assert row["mean"] == pytest.approx(expected, rel=0.02, abs=2e-5)
        assert row["low"] <= row["mean"] <= row["high"]
        groups = groups_of(jobs.dataset_of(case.parts[0], case.settings.source), [each.id for each in train])
        drawn = shuffled(differences(model, train, [1]), [1], 99, case.settings.seed, groups=groups)
        ends = evaluate(model, test, drawn, [-0.25, 0.25], layers=[1], fidelity=case.settings.fidelity)
        means = slopes(ends.table("x")).groupby("vector")["steerability"].mean()
        assert row["placebo"] == pytest.approx(means.quantile(0.95), rel=0.05, abs=5e-5)

    def test_a_step_of_none_is_refused(self, case):
        refused(layers.by_layer, case, 0, said="a step of at least 1; found 0")


class TestEncoder:
    def made(self, folder, bias: float, left: float) -> str:
        """A file whose feature 3 has this bias, and this much of it when the decoder bias is subtracted."""
        arrays = {"W_enc": np.eye(6), "W_dec": np.eye(6)}
        arrays |= {name: np.zeros(6) for name in ("b_enc", "b_dec", "threshold")}
        arrays["b_enc"][3], arrays["b_dec"][3] = bias, bias - left
        folder.mkdir()
        np.savez(folder / "params.npz", **{name: a.astype(np.float32) for name, a in arrays.items()})
        return str(folder / "params.npz")

    def test_it_says_which_convention_gives_the_published_numbers(self, tmp_path, monkeypatch):
        monkeypatch.setenv("STEERKIT_OUT", str(tmp_path))
        both, neither = self.made(tmp_path / "a", 86.2, 89.06), self.made(tmp_path / "b", 1.0, 2.0)
        names = cells("mayne-encoder", files=f"{both}, {neither}", feature=3)
        fits = "b_enc is the published encoder bias; b_enc - b_dec @ W_enc is the published f(0)"
        assert names["biases"]["fits"].tolist() == [fits, "neither number"]
        assert names["biases"]["b_enc"].tolist() == ["86.2000", "1.0000"]
        tops = [row["1"] for row in names["tops"]]
        assert tops[:2] == ["3 (86.20)", "3 (89.06)"] and len(tops) == 4
        refused(dict, encoder.candidates([both], 4888, download=False), said="a feature from 0 to 5")

    def test_without_the_files_it_says_what_is_missing_and_asks_once(self, tmp_path, monkeypatch):
        calls = []

        def fetch(*arguments, **options):
            calls.append(options["local_files_only"])
            raise OSError("no route")

        monkeypatch.setenv("STEERKIT_OUT", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
        names = cells("mayne-encoder", download=True)
        assert calls == [False] and list(names["biases"]["file"]) == list(SCOPE_NAMES) and not names["tops"]
        assert names["biases"]["fits"].str.startswith("missing: OSError: no route").all()
        fits = cells("mayne-encoder")["biases"]["fits"]
        assert fits.str.contains("not in the cache; fetch it with download=True").all()


@pytest.fixture(scope="module")
def vector(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "v.safetensors"
    own.extract("tiny", "openness", path, "1,2", "letter", "sweep")
    return path


class TestOwn:
    def test_it_decomposes_the_vector_of_the_autoencoders_layer(self, vector, tmp_path):
        from steerkit.vectors import load_vectors

        found = own.decompose(vector, "tiny", "signed-pursuit", 5)
        expected = decompose(load_vectors(vector).at(2)[0], tiny_sae(), "signed-pursuit", 5)
        pd.testing.assert_frame_equal(found, expected)
        assert found.attrs["layer"] == 2
        assert json.loads(found.to_json(orient="records"))[0]["rank"] == 1

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"method": "encoding"}, "a method among"),
            ({"sae": "huge"}, "found 'huge'"),
            ({"layer": 1}, "block 1"),
            ({"features": 257}, "between 1 and 256"),
            ({"features": 0}, "between 1 and 256"),
            ({"name": "half"}, "a vector of this file"),
            ({"method": "encode-scaled"}, "--norm"),
            ({"method": "encode-difference"}, "--data"),
            ({"method": "encode-difference", "data": "nothing"}, "a data set of source"),
        ],
    )
    def test_what_cannot_be_done_is_one_clear_error(self, vector, given, message):
        refused(own.decompose, vector, said=message, **{"sae": "tiny", "method": "signed-pursuit", **given})

    @pytest.mark.parametrize("values", [torch.zeros(1, 1, 32), torch.ones(1, 1, 31), torch.ones(1, 2, 32)])
    def test_a_vector_that_does_not_fit_is_refused(self, tmp_path, values):
        layers = (2,) if values.shape[1] == 1 else (0, 1)
        Vectors(("full",), layers, values).save(tmp_path / "v.safetensors")
        with pytest.raises(SteerkitError, match=r"not all zero|width 32|layer these vectors have"):
            own.decompose(tmp_path / "v.safetensors", "tiny", "signed-pursuit", 2)
