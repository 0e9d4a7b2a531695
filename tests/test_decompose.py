"""Decompositions: a case with a known answer, solvers against scikit-learn and scipy, tables against the formula."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from saved_sae import save_sae
from scipy.optimize import nnls
from sklearn.linear_model import Lasso, orthogonal_mp
from torch.testing import assert_close

from companion.mayne import solvers
from companion.mayne.baselines import overlap, random_like, reconstruct, reconstruction_curve, shuffled
from companion.mayne.solvers import METHODS
from steerkit.decomposition import decompose, signed_pursuit, top_features
from steerkit.errors import SteerkitError
from steerkit.sae import Sae


def random_sae(seed: int = 0, d: int = 24, f: int = 80, unit: bool = False) -> Sae:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(f, d, generator=generator)
    spread = 0.5 + torch.rand(f, 1, generator=generator) if not unit else 1 / rows.norm(dim=1, keepdim=True)
    rows = rows * spread
    bias = torch.randn(f, generator=generator)
    return Sae(rows.T.contiguous(), bias, rows, torch.randn(d, generator=generator), "relu", False)


def random_vector(seed: int, d: int = 24) -> torch.Tensor:
    return torch.randn(d, generator=torch.Generator().manual_seed(100 + seed))


PAIRS, DEFAULTS = 8, 3
TRUTH = {0: -2.0, 1: 1.5, 2: -1.0}  # coefficients of the first features of three pairs


@pytest.fixture(scope="module")
def anti_aligned() -> Sae:
    """Features 0..7 and their partners 8..15 with cosine -0.8, orthogonal to other pairs; 16..18 are default features
    with a large encoder bias, which are off on real inputs only because those have a large negative part there."""
    axes = torch.eye(2 * PAIRS + DEFAULTS)
    first, second = axes[:PAIRS], axes[PAIRS : 2 * PAIRS]
    rows = torch.cat([first, -0.8 * first + 0.6 * second, axes[2 * PAIRS :]])
    bias = torch.cat([torch.full((2 * PAIRS,), -0.1), torch.tensor([90.0, 36.0, 20.0])])
    threshold = torch.full((len(rows),), 0.5)
    return Sae(rows.T.contiguous(), bias, rows, torch.zeros(len(axes)), "jumprelu", False, threshold)


@pytest.fixture(scope="module")
def known(anti_aligned) -> torch.Tensor:
    return sum(amount * anti_aligned.W_dec[feature] for feature, amount in TRUTH.items())


class TestKnownAnswer:
    def test_the_encoder_bias_decides_the_largest_features_as_for_the_zero_vector(self, anti_aligned, known):
        """Mayne et al. 2024, first way: the vector is small beside the inputs that the bias was made for."""
        of_vector, of_zero = (top_features(anti_aligned, x, 3) for x in (known, torch.zeros_like(known)))
        assert of_vector["feature"].tolist() == of_zero["feature"].tolist() == [16, 17, 18]
        assert of_vector["activation"].tolist() == of_zero["activation"].tolist() == [90.0, 36.0, 20.0]
        assert not set(of_vector["feature"]) & set(TRUTH)

    def test_negative_coefficients_are_lost_and_their_partners_appear(self, anti_aligned, known):
        """Second way: f_j = max(0, ...) = 0 where the truth is negative, and cos -0.8 makes the partner positive."""
        found = decompose(known, anti_aligned, "encode", 19).set_index("feature")["coefficient"]
        partners = {feature + PAIRS for feature, amount in TRUTH.items() if amount < 0}
        assert set(found.index) == {1} | partners | {16, 17, 18}
        assert found[8] == pytest.approx(0.8 * 2.0 - 0.1) and found[10] == pytest.approx(0.8 * 1.0 - 0.1)
        assert (found > 0).all()

    @pytest.mark.parametrize("target_norm", [10.0, 100.0])
    def test_scaling_up_brings_no_negative_coefficient_back(self, anti_aligned, known, target_norm):
        table = decompose(known, anti_aligned, "encode-scaled", 19, target_norm=target_norm)
        assert (table["coefficient"] > 0).all() and not {0, 2} & set(table["feature"])
        assert {8, 10, 16} <= set(table["feature"])

    def test_signed_pursuit_recovers_the_truth_and_nonnegative_least_squares_the_partners(
        self, anti_aligned, known
    ):
        table = decompose(known, anti_aligned, "signed-pursuit", 10)
        assert table["feature"].tolist() == [0, 1, 2] and table["rank"].tolist() == [1, 2, 3]
        np.testing.assert_allclose(table["coefficient"], list(TRUTH.values()), atol=1e-6)
        assert table.attrs["explained"] == pytest.approx(1, abs=1e-9)
        assert_close(reconstruct(table, anti_aligned), known)
        table = decompose(known, anti_aligned, "nnls", 10)
        assert set(table["feature"]) == {1, 8, 10} and table.attrs["explained"] < 0.8

    def test_a_difference_of_encodings_finds_the_signs_that_the_vector_hides(self, anti_aligned, known):
        """Real inputs: off at the default features, well above threshold at the features of the vector."""
        middle = 5 * anti_aligned.W_dec[:3].sum(0) - 200 * anti_aligned.W_dec[16:].sum(0)
        noise = 0.1 * torch.randn(6, len(known), generator=torch.Generator().manual_seed(0))
        sides = {"positive": middle + noise + known / 2, "negative": middle + noise - known / 2}
        table = decompose(known, anti_aligned, "encode-difference", 3, **sides)
        assert table["feature"].tolist() == [0, 1, 2]
        np.testing.assert_allclose(table["coefficient"], list(TRUTH.values()), atol=1e-5)


class TestSolvers:
    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize("count", [1, 5, 16, 24])
    def test_signed_pursuit_is_orthogonal_matching_pursuit(self, seed, count):
        sae, vector = random_sae(seed, unit=True), random_vector(seed)
        [found] = signed_pursuit(vector.double().numpy(), sae.W_dec, [count])
        expected = orthogonal_mp(sae.W_dec.T.double().numpy(), vector.double().numpy(), n_nonzero_coefs=count)
        dense = np.zeros(80)
        dense[found.features] = found.coefficients
        np.testing.assert_allclose(dense, expected, atol=1e-6)

    def test_it_is_also_at_the_size_of_a_real_one(self):
        sae, vector = random_sae(1, d=256, f=2048, unit=True), random_vector(1, 256)
        table = decompose(vector, sae, "signed-pursuit", 64)
        expected = orthogonal_mp(sae.W_dec.T.double().numpy(), vector.double().numpy(), n_nonzero_coefs=64)
        assert set(table["feature"]) == set(np.flatnonzero(expected))
        np.testing.assert_allclose(table["coefficient"], expected[table["feature"]], atol=1e-6)

    def test_coefficients_belong_to_the_rows_as_they_are(self):
        """Row j times s_j: coefficient j divided by s_j, the same reconstruction."""
        sae, vector = random_sae(3, unit=True), random_vector(3)
        scales = 0.1 + 5 * torch.rand(80, generator=torch.Generator().manual_seed(0))
        scaled = Sae(sae.W_enc, sae.b_enc, sae.W_dec * scales[:, None], sae.b_dec, "relu", False)
        for method in ("signed-pursuit", "nnls", "lasso"):
            one, other = (decompose(vector, each, method, 8).set_index("feature") for each in (sae, scaled))
            shift = torch.tensor(one.index.to_numpy())
            expected = one["coefficient"] / scales[shift].numpy()
            np.testing.assert_allclose(other.loc[one.index, "coefficient"], expected, rtol=1e-4)

    @pytest.mark.parametrize("seed", range(8))
    def test_each_refit_is_the_least_squares_one_and_selections_are_nested(self, seed):
        sae, vector = random_sae(seed), random_vector(seed).double().numpy()
        found = signed_pursuit(vector, sae.W_dec, [3, 7, 12])
        for solution in found:
            columns = sae.W_dec[torch.from_numpy(solution.features)].double().numpy().T
            expected = np.linalg.lstsq(columns, vector, rcond=None)[0]
            np.testing.assert_allclose(solution.coefficients, expected, atol=1e-9)
        assert found[0].features.tolist() == found[2].features.tolist()[:3]

    def test_copies_and_zero_rows_are_passed_over(self):
        rows = torch.eye(4)[[0, 0, 1, 2]] * torch.tensor([[1.0], [-2.0], [1.0], [0.0]])
        vector = np.array([3.0, -1.0, 0.0, 0.5])
        [found] = signed_pursuit(vector, rows, [4])
        assert found.features.tolist() == [0, 2]
        np.testing.assert_allclose(found.coefficients, [3.0, -1.0])
        [found] = solvers.nonnegative_pursuit(-vector, rows, [4])
        assert found.features.tolist() == [1, 2]
        np.testing.assert_allclose(found.coefficients, [1.5, 1.0])

    @pytest.mark.parametrize("seed", range(8))
    def test_the_whole_run_of_nnls_is_the_exact_solution_over_all_rows(self, seed):
        sae, vector = random_sae(seed, f=40), random_vector(seed).double().numpy()
        [found] = solvers.nonnegative_pursuit(vector, sae.W_dec, [40])
        expected, rest = nnls(sae.W_dec.T.double().numpy(), vector)
        dense = np.zeros(40)
        dense[found.features] = found.coefficients
        if rest > 1e-3:  # else many solutions are exact
            np.testing.assert_allclose(dense, expected, atol=1e-5)
        left = vector - dense @ sae.W_dec.double().numpy()
        assert np.linalg.norm(left) == pytest.approx(rest, abs=1e-6)

    @pytest.mark.parametrize("seed", range(8))
    def test_a_stopped_nnls_is_the_best_for_its_rows_and_better_with_more(self, seed):
        sae, vector = random_sae(seed), random_vector(seed).double().numpy()
        counts = [1, 2, 4, 8, 12]
        left = []
        for count, found in zip(counts, solvers.nonnegative_pursuit(vector, sae.W_dec, counts), strict=True):
            columns = sae.W_dec[torch.from_numpy(found.features)].double().numpy().T
            expected, rest = nnls(columns, vector)
            np.testing.assert_allclose(found.coefficients, expected, atol=1e-8)
            assert 0 < len(found.features) <= count and (found.coefficients > 0).all()
            left.append(rest)
        assert left == sorted(left, reverse=True) and left[-1] < left[0]
        cosine = (sae.W_dec @ torch.from_numpy(vector).float()) / sae.W_dec.norm(dim=1)
        first = solvers.nonnegative_pursuit(vector, sae.W_dec, [1])[0].features
        assert first.tolist() == [int(cosine.argmax())]

    def test_a_vector_against_every_row_has_no_nonnegative_part(self):
        [found] = solvers.nonnegative_pursuit(-np.ones(3), torch.eye(3), [2])
        assert len(found.features) == len(found.coefficients) == 0

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("per_feature", [1, 8])
    def test_the_lasso_is_that_of_coordinate_descent_on_all_rows(self, seed, per_feature, monkeypatch):
        """Also when the first guess at the candidates is far too small."""
        monkeypatch.setattr(solvers, "CANDIDATES_PER_FEATURE", per_feature)
        sae, vector = random_sae(seed, unit=True), random_vector(seed).double().numpy()
        columns = sae.W_dec.T.double().numpy()
        [found] = solvers.lasso(vector, sae.W_dec, [6])
        dense = np.zeros(80)
        dense[found.features] = found.coefficients
        penalty = np.abs(columns.T @ (vector - columns @ dense)).max() / len(vector)
        oracle = Lasso(alpha=penalty, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(columns, vector)
        np.testing.assert_allclose(dense, oracle.coef_, atol=1e-5)
        assert 1 <= len(found.features) <= 6

    def test_the_lasso_survives_exact_copies(self):
        rows = torch.cat([random_sae(0, unit=True).W_dec[:5]] * 2 + [-random_sae(0, unit=True).W_dec[:5]])
        [found] = solvers.lasso(random_vector(0).double().numpy(), rows, [4])
        assert 1 <= len(found.features) <= 4

    def test_the_lasso_says_what_to_install(self, monkeypatch):
        real = builtins.__import__

        def without_sklearn(name, *rest, **more):
            if name.startswith("sklearn"):
                raise ImportError(name)
            return real(name, *rest, **more)

        monkeypatch.setattr(builtins, "__import__", without_sklearn)
        with pytest.raises(SteerkitError, match="pip install scikit-learn"):
            decompose(random_vector(0), random_sae(), "lasso", 3)


class TestEncodings:
    @pytest.mark.parametrize("seed", range(3))
    def test_encode_keeps_the_largest_activations(self, seed):
        sae, vector = random_sae(seed), random_vector(seed)
        active = (vector @ sae.W_enc + sae.b_enc).relu()
        table = decompose(vector, sae, "encode", 7)
        expected = active.topk(7)
        assert table["feature"].tolist() == expected.indices.tolist()
        assert table["rank"].tolist() == [*range(1, 8)]
        np.testing.assert_allclose(table["coefficient"], expected.values, rtol=1e-6)
        assert len(decompose(vector, sae, "encode", 80)) == int((active > 0).sum())

    def test_with_the_bias_all_active_features_are_the_autoencoders_own_output(self):
        sae, vector = random_sae(), random_vector(0)
        table = decompose(vector, sae, "encode", 80)
        assert_close(reconstruct(table, sae, bias=1), sae.decode(sae.encode(vector)), atol=1e-4, rtol=1e-5)

    def test_scaled_encodings_are_divided_by_the_scale_again(self):
        sae, vector = random_sae(), random_vector(0)
        scale = 50.0 / float(vector.norm())
        table = decompose(vector, sae, "encode-scaled", 5, target_norm=50.0)
        expected = ((vector * scale) @ sae.W_enc + sae.b_enc).relu().topk(5)
        assert table["feature"].tolist() == expected.indices.tolist()
        np.testing.assert_allclose(table["coefficient"], expected.values / scale, rtol=1e-5)
        own_norm = decompose(vector, sae, "encode-scaled", 5, target_norm=float(vector.norm()))
        pd.testing.assert_frame_equal(own_norm, decompose(vector, sae, "encode", 5), rtol=1e-5)

    def test_the_difference_is_a_mean_over_pairs_and_batches(self):
        sae, vector = random_sae(), random_vector(0)
        generator = torch.Generator().manual_seed(0)
        positive, negative = torch.randn(2, 150, 24, generator=generator)
        expected = sum(sae.encode(p) - sae.encode(n) for p, n in zip(positive, negative, strict=True)) / 150
        table = decompose(vector, sae, "encode-difference", 80, positive=positive, negative=negative)
        dense = torch.zeros(80, dtype=torch.float64)
        dense[torch.tensor(table["feature"].to_numpy())] = torch.tensor(table["coefficient"].to_numpy())
        assert_close(dense.float(), expected, atol=1e-5, rtol=1e-4)
        assert table["coefficient"].abs().is_monotonic_decreasing and (table["coefficient"] < 0).any()

    def test_top_features_lists_only_active_ones(self):
        eye = torch.eye(3)
        sae = Sae(eye, torch.tensor([-1.0, 2.0, 1.0]), eye, torch.zeros(3), "relu", False)
        expected = {"feature": [1, 2], "activation": [2.0, 1.0], "rank": [1, 2]}
        assert top_features(sae, torch.zeros(3), 3).to_dict("list") == expected


class TestTables:
    @pytest.mark.parametrize("method", METHODS)
    def test_its_notes_are_those_of_the_formula(self, method):
        sae, vector = random_sae(), random_vector(0)
        pairs = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(0))
        table = decompose(vector, sae, method, 6, target_norm=9.0, positive=pairs[0], negative=pairs[1])
        total = torch.zeros(24)
        for feature, coefficient in zip(table["feature"], table["coefficient"], strict=True):
            total += coefficient * sae.W_dec[feature]
        assert_close(reconstruct(table, sae), total, atol=1e-5, rtol=1e-5)
        rest = float((vector - total).norm())
        assert table.attrs["method"] == method
        assert table.attrs["residual_norm"] == pytest.approx(rest, rel=1e-4)
        share = 1 - rest**2 / float(vector.norm()) ** 2
        assert table.attrs["explained"] == pytest.approx(share, rel=1e-5, abs=1e-5)
        assert list(table.columns) == ["feature", "coefficient", "rank"] and 1 <= len(table) <= 6

    def test_the_curve_agrees_with_single_decompositions(self):
        sae, vector = random_sae(), random_vector(0)
        pairs = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(0))
        more = {"target_norm": 9.0, "positive": pairs[0], "negative": pairs[1]}
        curve = reconstruction_curve(vector, sae, METHODS, [1, 4, 16], **more)
        assert curve[["method", "n_features"]].apply(tuple, axis=1).tolist() == [
            (method, count) for method in METHODS for count in (1, 4, 16)
        ]
        for row in curve.itertuples():
            table = decompose(vector, sae, row.method, row.n_features, **more)
            found = reconstruct(table, sae)
            assert row.explained == pytest.approx(table.attrs["explained"], abs=1e-9)
            assert row.cosine == pytest.approx(float(torch.cosine_similarity(found, vector, dim=0)), abs=1e-5)

    def test_signed_pursuit_explains_more_with_each_feature_and_everything_in_the_end(self):
        curve = reconstruction_curve(random_vector(0), random_sae(), ["signed-pursuit"], range(1, 25))
        assert curve["explained"].is_monotonic_increasing and curve["explained"].iloc[-1] == pytest.approx(1)
        assert curve["cosine"].to_numpy() ** 2 == pytest.approx(curve["explained"].to_numpy(), abs=1e-6)

    def test_an_encoding_without_active_features_explains_nothing(self):
        sae = random_sae()
        silent = Sae(sae.W_enc, sae.b_enc - 1e3, sae.W_dec, sae.b_dec, "relu", False)
        curve = reconstruction_curve(random_vector(0), silent, ["encode"], [5])
        assert (curve.loc[0, "explained"], curve.loc[0, "cosine"]) == (0.0, 0.0)
        assert len(decompose(random_vector(0), silent, "encode", 5)) == 0

    def test_overlap_is_the_jaccard_index_of_each_pair(self):
        features = {"a": [1, 2, 3], "b": [3, 2, 9], "c": [7, 8, 9]}
        tables = {name: pd.DataFrame({"feature": each, "rank": [1, 2, 3]}) for name, each in features.items()}
        expected = {"first": ["a", "a", "b"], "second": ["b", "c", "c"], "jaccard": [2 / 4, 0.0, 1 / 5]}
        assert overlap(tables).to_dict("list") == expected
        assert overlap(tables, top=2)["jaccard"].tolist() == [1 / 3, 0.0, 0.0]
        with pytest.raises(SteerkitError, match="two decompositions or more"):
            overlap({"a": tables["a"]})


class TestBaselines:
    def test_a_random_vector_has_the_norm_and_another_direction(self):
        vector = random_vector(0, 400)
        found = random_like(vector, 1)
        assert float(found.norm()) == pytest.approx(float(vector.norm()), rel=1e-6)
        assert abs(float(torch.cosine_similarity(found, vector, dim=0))) < 0.3
        assert torch.equal(found, random_like(vector, 1)) and not torch.equal(found, random_like(vector, 2))

    def test_shuffling_keeps_what_each_coordinate_looks_like_and_the_norms(self):
        sae = random_sae(d=16, f=300)
        sae.W_dec[:, 3] *= 50  # an outlier coordinate, as residual streams have
        found = shuffled(sae, 0)
        assert_close(found.W_dec.norm(dim=1), sae.W_dec.norm(dim=1))
        assert_close(found.W_enc.norm(dim=0), sae.W_enc.norm(dim=0))
        spread = found.W_dec.std(dim=0) / sae.W_dec.std(dim=0)
        assert found.W_dec[:, 3].abs().median() > 10 * found.W_dec[:, [0, 1, 2]].abs().median()
        assert spread[3] == pytest.approx(1, abs=0.2)
        assert torch.equal(found.b_enc, sae.b_enc) and torch.equal(found.b_dec, sae.b_dec)
        assert torch.equal(found.W_dec, shuffled(sae, 0).W_dec)
        assert not torch.equal(found.W_dec, shuffled(sae, 1).W_dec)

    def test_rows_and_columns_of_tied_weights_are_dealt_alike(self):
        found = shuffled(random_sae(unit=True), 0)
        assert_close(found.W_dec, found.W_enc.T)

    def test_a_sum_of_few_rows_is_found_in_the_dictionary_and_not_in_a_shuffled_one(self):
        sae = random_sae(d=64, f=128, unit=True)
        vector = 3 * sae.W_dec[5] - 2 * sae.W_dec[77] + sae.W_dec[101]
        own, other = (
            reconstruction_curve(vector, each, ["signed-pursuit"], [8]).loc[0, "explained"]
            for each in (sae, shuffled(sae, 0))
        )
        assert own == pytest.approx(1, abs=1e-6) and other < 0.8


PEAK = """
import pathlib, sys, torch
import companion.mayne.solvers
from steerkit.decomposition import decompose
from steerkit.sae import Sae, load_sae

def warm(d, f):
    rows = torch.randn(f, d)
    return Sae(rows.T.contiguous(), torch.zeros(f), rows, torch.zeros(d), "relu", False)

def status(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

for method in ("encode", "signed-pursuit", "nnls", "lasso"):  # imports and thread pools are not what is measured
    decompose(torch.randn(8), warm(8, 32), method, 4)
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
before = status("VmRSS")
sae = load_sae(sys.argv[1])
for method in ("encode", "signed-pursuit", "nnls", "lasso"):
    decompose(torch.randn(sae.width), sae, method, 16)
print((status("VmHWM") - before) / (sae.W_enc.nbytes + sae.W_dec.nbytes))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="reads the peak from Linux")
@pytest.mark.parametrize("form", ["npz", "folder"])
def test_reading_and_decomposing_peaks_at_one_and_a_half_times_the_weights(tmp_path, form):
    sae = random_sae(d=1024, f=8192)
    if form == "folder":
        save_sae(sae, tmp_path / form)
    else:
        names = ("W_enc", "b_enc", "W_dec", "b_dec")
        content = {name: getattr(sae, name).numpy() for name in names}
        np.savez(tmp_path / "npz", **content, threshold=np.ones(8192, np.float32))
    path = tmp_path / {"npz": "npz.npz", "folder": "folder"}[form]
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    assert 0.9 < float(done.stdout) < 1.5


class TestBadInput:
    @pytest.mark.parametrize(
        ("vector", "words"),
        [
            (torch.zeros(24), "zeros only.*top_features"),
            (torch.full((24,), torch.nan), "NaN or infinity"),
            (torch.full((24,), torch.inf), "NaN or infinity"),
            (torch.ones(23), "width 24.*found width 23"),
            (torch.ones(2, 24), r"one vector \[24\]; found an array \[2, 24\]"),
        ],
    )
    @pytest.mark.parametrize("method", ["encode", "signed-pursuit"])
    def test_a_vector_that_cannot_be_decomposed_is_refused(self, vector, words, method):
        with pytest.raises(SteerkitError, match=words):
            decompose(vector, random_sae(), method)
        with pytest.raises(SteerkitError, match=words):
            reconstruction_curve(vector, random_sae(), [method], [3])

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("count", [81, 0, -1])
    def test_more_features_than_there_are_are_refused(self, method, count):
        with pytest.raises(SteerkitError, match=rf"between 1 and 80 features.*found {count}\."):
            decompose(random_vector(0), random_sae(), method, count)
        with pytest.raises(SteerkitError, match="between 1 and 80 features"):
            reconstruction_curve(random_vector(0), random_sae(), [method], [4, count])
        with pytest.raises(SteerkitError, match="between 1 and 80 features"):
            top_features(random_sae(), random_vector(0), count)

    def test_an_unknown_method_names_the_known_ones(self):
        with pytest.raises(SteerkitError, match=r"encode, encode-scaled, .*found 'omp'"):
            decompose(random_vector(0), random_sae(), "omp", 3)

    @pytest.mark.parametrize("norm", [None, 0.0, -1.0, np.nan, np.inf])
    def test_scaled_encoding_needs_a_norm(self, norm):
        with pytest.raises(SteerkitError, match="target_norm"):
            decompose(random_vector(0), random_sae(), "encode-scaled", 3, target_norm=norm)

    @pytest.mark.parametrize(
        ("positive", "negative"),
        [
            (None, None),
            (torch.ones(3, 24), None),
            (torch.ones(3, 24), torch.ones(2, 24)),
            (torch.ones(24), torch.ones(24)),
            (torch.ones(0, 24), torch.ones(0, 24)),
            (torch.ones(3, 24), torch.full((3, 24), torch.nan)),
            (torch.ones(3, 23), torch.ones(3, 23)),
        ],
    )
    def test_a_difference_of_encodings_needs_pairs_of_activations(self, positive, negative):
        sides = {"positive": positive, "negative": negative}
        with pytest.raises(SteerkitError, match=r"activations|width"):
            decompose(random_vector(0), random_sae(), "encode-difference", 3, **sides)
