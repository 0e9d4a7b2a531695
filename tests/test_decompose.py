"""Decompositions: a case with a known answer, solvers against scikit-learn and scipy, tables against the formula."""

import os
import subprocess
import sys
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import refused
from saved_sae import save_sae
from scipy.optimize import nnls
from sklearn.linear_model import Lasso, orthogonal_mp
from torch.testing import assert_close

from companion.mayne import solvers
from companion.mayne.baselines import overlap, random_like, reconstruct, reconstruction_curve, shuffled
from companion.mayne.solvers import METHODS
from steerkit.decomposition import decompose, signed_pursuit, top_features
from steerkit.sae import Sae


def random_sae(seed: int = 0, d: int = 24, f: int = 80, unit: bool = False) -> Sae:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(f, d, generator=generator)
    spread = 0.5 + torch.rand(f, 1, generator=generator) if not unit else 1 / rows.norm(dim=1, keepdim=True)
    rows, bias = rows * spread, torch.randn(f, generator=generator)
    return Sae(rows.T.contiguous(), bias, rows, torch.randn(d, generator=generator), "relu", False)


def random_vector(seed: int, d: int = 24) -> torch.Tensor:
    return torch.randn(d, generator=torch.Generator().manual_seed(100 + seed))


def drawn(seed: int, d: int = 24, f: int = 80, unit: bool = False) -> tuple[Sae, np.ndarray]:
    return random_sae(seed, d, f, unit), random_vector(seed, d).double().numpy()


def columns_of(sae: Sae, features=slice(None)) -> np.ndarray:
    """Decoder rows as the columns [d, n] of a design, float64."""
    return sae.W_dec.double().numpy()[features].T


def dense(features, coefficients, size: int = 80) -> np.ndarray:
    placed = np.zeros(size)
    placed[features] = coefficients
    return placed


@pytest.fixture(scope="module")
def sae() -> Sae:
    return random_sae()


@pytest.fixture(scope="module")
def vector() -> torch.Tensor:
    return random_vector(0)


@pytest.fixture(scope="module")
def more() -> dict:
    """What some methods need besides."""
    positive, negative = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(0))
    return {"target_norm": 9.0, "positive": positive, "negative": negative}


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

    def test_signed_pursuit_recovers_the_truth_and_nnls_the_partners(self, anti_aligned, known):
        table = decompose(known, anti_aligned, "signed-pursuit", 10)
        assert table["feature"].tolist() == [0, 1, 2] and table["rank"].tolist() == [1, 2, 3]
        np.testing.assert_allclose(table["coefficient"], list(TRUTH.values()), atol=1e-6)
        assert table.attrs["explained"] == pytest.approx(1, abs=1e-9)
        assert_close(reconstruct(table, anti_aligned), known)
        table = decompose(known, anti_aligned, "nnls", 10)
        assert set(table["feature"]) == {1, 8, 10} and table.attrs["explained"] < 0.8

    def test_encoding_loses_negative_coefficients_for_their_partners_at_any_scale(self, anti_aligned, known):
        """Second way: f_j = max(0, ...) = 0 where the truth is negative, and cos -0.8 makes the partner positive."""
        for norm in (float(known.norm()), 10.0, 100.0):
            table = decompose(known, anti_aligned, "encode-scaled", 19, target_norm=norm)
            assert (table["coefficient"] > 0).all() and not {0, 2} & set(table["feature"])
            assert {8, 10, 16} <= set(table["feature"])


class TestSolvers:
    @pytest.mark.parametrize(
        ("seed", "d", "f", "count"),
        [*((seed, 24, 80, count) for seed in range(8) for count in (1, 5, 16, 24)), (1, 256, 2048, 64)],
    )
    def test_signed_pursuit_is_orthogonal_matching_pursuit(self, seed, d, f, count):
        """Also at the size of a real autoencoder."""
        sae, vector = drawn(seed, d, f, unit=True)
        [found] = signed_pursuit(vector, sae.W_dec, [count])
        expected = orthogonal_mp(columns_of(sae), vector, n_nonzero_coefs=count)
        np.testing.assert_allclose(dense(found.features, found.coefficients, f), expected, atol=1e-6)

    def test_coefficients_belong_to_the_rows_as_they_are(self):
        """Row j times s_j: coefficient j divided by s_j, the same reconstruction."""
        sae, vector = random_sae(3, unit=True), random_vector(3)
        scales = 0.1 + 5 * torch.rand(80, generator=torch.Generator().manual_seed(0))
        scaled = Sae(sae.W_enc, sae.b_enc, sae.W_dec * scales[:, None], sae.b_dec, "relu", False)
        for method in ("signed-pursuit", "nnls", "lasso"):
            tables = [decompose(vector, each, method, 8) for each in (sae, scaled)]
            one, other = (dense(table["feature"], table["coefficient"]) for table in tables)
            np.testing.assert_allclose(other, one / scales.numpy(), rtol=1e-4)

    @pytest.mark.parametrize("seed", range(8))
    def test_each_refit_is_the_least_squares_one_and_selections_are_nested(self, seed):
        sae, vector = drawn(seed)
        found = signed_pursuit(vector, sae.W_dec, [3, 7, 12])
        for solution in found:
            expected = np.linalg.lstsq(columns_of(sae, solution.features), vector, rcond=None)[0]
            np.testing.assert_allclose(solution.coefficients, expected, atol=1e-9)
        assert found[0].features.tolist() == found[2].features.tolist()[:3]

    def test_copies_and_zero_rows_are_passed_over_and_rows_against_the_vector_by_nnls(self):
        rows = torch.eye(4)[[0, 0, 1, 2]] * torch.tensor([[1.0], [-2.0], [1.0], [0.0]])
        vector = np.array([3.0, -1.0, 0.0, 0.5])
        [found] = signed_pursuit(vector, rows, [4])
        assert found.features.tolist() == [0, 2]
        np.testing.assert_allclose(found.coefficients, [3.0, -1.0])
        [found] = solvers.nonnegative_pursuit(-vector, rows, [4])
        assert found.features.tolist() == [1, 2]
        np.testing.assert_allclose(found.coefficients, [1.5, 1.0])
        [found] = solvers.nonnegative_pursuit(-np.ones(3), torch.eye(3), [2])
        assert len(found.features) == len(found.coefficients) == 0

    @pytest.mark.parametrize("seed", range(8))
    def test_the_whole_run_of_nnls_is_the_exact_solution_over_all_rows(self, seed):
        sae, vector = drawn(seed, f=40)
        [found] = solvers.nonnegative_pursuit(vector, sae.W_dec, [40])
        found = dense(found.features, found.coefficients, 40)
        expected, rest = nnls(columns_of(sae), vector)
        if rest > 1e-3:  # else many solutions are exact
            np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.linalg.norm(vector - columns_of(sae) @ found) == pytest.approx(rest, abs=1e-6)

    @pytest.mark.parametrize("seed", range(8))
    def test_a_stopped_nnls_is_the_best_for_its_rows_and_better_with_more(self, seed):
        (sae, vector), counts, left = drawn(seed), [1, 2, 4, 8, 12], []
        found = solvers.nonnegative_pursuit(vector, sae.W_dec, counts)
        for count, each in zip(counts, found, strict=True):
            expected, rest = nnls(columns_of(sae, each.features), vector)
            np.testing.assert_allclose(each.coefficients, expected, atol=1e-8)
            assert 0 < len(each.features) <= count and (each.coefficients > 0).all()
            left.append(rest)
        assert left == sorted(left, reverse=True) and left[-1] < left[0]
        cosine = vector @ columns_of(sae) / np.linalg.norm(columns_of(sae), axis=0)
        assert found[0].features.tolist() == [int(cosine.argmax())]

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("per_feature", [1, 8])
    def test_the_lasso_is_that_of_coordinate_descent_on_all_rows(self, seed, per_feature, monkeypatch):
        """Also when the first guess at the candidates is far too small."""
        monkeypatch.setattr(solvers, "CANDIDATES_PER_FEATURE", per_feature)
        sae, vector = drawn(seed, unit=True)
        columns, [found] = columns_of(sae), solvers.lasso(vector, sae.W_dec, [6])
        rest = vector - columns @ dense(found.features, found.coefficients)
        penalty = np.abs(columns.T @ rest).max() / len(vector)
        oracle = Lasso(alpha=penalty, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(columns, vector)
        np.testing.assert_allclose(dense(found.features, found.coefficients), oracle.coef_, atol=1e-5)
        assert 1 <= len(found.features) <= 6

    def test_the_lasso_survives_exact_copies(self):
        rows = torch.cat([random_sae(0, unit=True).W_dec[:5]] * 2 + [-random_sae(0, unit=True).W_dec[:5]])
        [found] = solvers.lasso(random_vector(0).double().numpy(), rows, [4])
        assert 1 <= len(found.features) <= 4


class TestEncodings:
    @pytest.mark.parametrize("seed", range(3))
    def test_encode_keeps_the_largest_activations_and_all_with_the_bias_are_the_own_output(self, seed):
        sae, vector = random_sae(seed), random_vector(seed)
        active = (vector @ sae.W_enc + sae.b_enc).relu()
        table, expected = decompose(vector, sae, "encode", 7), active.topk(7)
        assert table["feature"].tolist() == expected.indices.tolist()
        assert table["rank"].tolist() == [*range(1, 8)]
        np.testing.assert_allclose(table["coefficient"], expected.values, rtol=1e-6)
        whole = decompose(vector, sae, "encode", 80)
        assert len(whole) == int((active > 0).sum())
        assert_close(
            reconstruct(whole, sae) + sae.b_dec, sae.decode(sae.encode(vector)), atol=1e-4, rtol=1e-5
        )

    def test_scaled_encodings_are_divided_by_the_scale_again(self, sae, vector):
        scale = 50.0 / float(vector.norm())
        table = decompose(vector, sae, "encode-scaled", 5, target_norm=50.0)
        expected = ((vector * scale) @ sae.W_enc + sae.b_enc).relu().topk(5)
        assert table["feature"].tolist() == expected.indices.tolist()
        np.testing.assert_allclose(table["coefficient"], expected.values / scale, rtol=1e-5)
        own_norm = decompose(vector, sae, "encode-scaled", 5, target_norm=float(vector.norm()))
        pd.testing.assert_frame_equal(own_norm, decompose(vector, sae, "encode", 5), rtol=1e-5)

    def test_the_difference_is_a_mean_over_pairs_and_batches(self, sae, vector):
        positive, negative = torch.randn(2, 150, 24, generator=torch.Generator().manual_seed(0))
        expected = sum(sae.encode(p) - sae.encode(n) for p, n in zip(positive, negative, strict=True)) / 150
        table = decompose(vector, sae, "encode-difference", 80, positive=positive, negative=negative)
        placed = dense(table["feature"], table["coefficient"])
        np.testing.assert_allclose(placed, expected, atol=1e-5, rtol=1e-4)
        assert table["coefficient"].abs().is_monotonic_decreasing and (table["coefficient"] < 0).any()

    def test_top_features_lists_only_active_ones(self):
        eye = torch.eye(3)
        sae = Sae(eye, torch.tensor([-1.0, 2.0, 1.0]), eye, torch.zeros(3), "relu", False)
        expected = {"feature": [1, 2], "activation": [2.0, 1.0], "rank": [1, 2]}
        assert top_features(sae, torch.zeros(3), 3).to_dict("list") == expected
        assert top_features(sae, torch.full((3,), -9.0), 3).to_dict("list") == {name: [] for name in expected}


class TestTables:
    @pytest.mark.parametrize("method", METHODS)
    def test_its_notes_are_those_of_the_formula(self, method, sae, vector, more):
        table = decompose(vector, sae, method, 6, **more)
        total = torch.from_numpy(dense(table["feature"], table["coefficient"]) @ columns_of(sae).T).float()
        assert_close(reconstruct(table, sae), total, atol=1e-5, rtol=1e-5)
        rest = float((vector - total).norm())
        assert table.attrs["method"] == method
        assert table.attrs["residual_norm"] == pytest.approx(rest, rel=1e-4)
        share = 1 - rest**2 / float(vector.norm()) ** 2
        assert table.attrs["explained"] == pytest.approx(share, rel=1e-5, abs=1e-5)
        assert list(table.columns) == ["feature", "coefficient", "rank"] and 1 <= len(table) <= 6

    def test_the_curve_agrees_with_single_decompositions(self, sae, vector, more):
        curve = reconstruction_curve(vector, sae, METHODS, [1, 4, 16], **more)
        rows = list(curve.itertuples())
        assert [(row.method, row.n_features) for row in rows] == list(product(METHODS, (1, 4, 16)))
        for row in rows:
            table = decompose(vector, sae, row.method, row.n_features, **more)
            cosine = torch.cosine_similarity(reconstruct(table, sae), vector, dim=0)
            assert row.explained == pytest.approx(table.attrs["explained"], abs=1e-9)
            assert row.cosine == pytest.approx(float(cosine), abs=1e-5)

    def test_signed_pursuit_explains_more_with_each_feature_and_everything_in_the_end(self, sae, vector):
        curve = reconstruction_curve(vector, sae, ["signed-pursuit"], range(1, 25))
        assert curve["explained"].is_monotonic_increasing and curve["explained"].iloc[-1] == pytest.approx(1)
        assert curve["cosine"].to_numpy() ** 2 == pytest.approx(curve["explained"].to_numpy(), abs=1e-6)

    def test_an_encoding_without_active_features_explains_nothing(self, sae, vector):
        silent = Sae(sae.W_enc, sae.b_enc - 1e3, sae.W_dec, sae.b_dec, "relu", False)
        curve = reconstruction_curve(vector, silent, ["encode"], [5])
        assert (curve.loc[0, "explained"], curve.loc[0, "cosine"]) == (0.0, 0.0)
        assert len(decompose(vector, silent, "encode", 5)) == 0

    def test_overlap_is_the_jaccard_index_of_each_pair(self):
        features = {"a": [1, 2, 3], "b": [3, 2, 9], "c": [7, 8, 9]}
        tables = {name: pd.DataFrame({"feature": each, "rank": [1, 2, 3]}) for name, each in features.items()}
        expected = {"first": ["a", "a", "b"], "second": ["b", "c", "c"], "jaccard": [2 / 4, 0.0, 1 / 5]}
        assert overlap(tables).to_dict("list") == expected
        refused(overlap, {"a": tables["a"]}, said="two decompositions or more")


class TestBaselines:
    def test_a_random_vector_has_the_norm_and_another_direction(self):
        vector, found = random_vector(0, 400), random_like(random_vector(0, 400), 1)
        assert float(found.norm()) == pytest.approx(float(vector.norm()), rel=1e-6)
        assert abs(float(torch.cosine_similarity(found, vector, dim=0))) < 0.3
        assert not torch.equal(found, random_like(vector, 2))

    def test_shuffling_keeps_what_each_coordinate_looks_like_and_the_norms(self):
        sae = random_sae(d=16, f=300)
        sae.W_dec[:, 3] *= 50  # an outlier coordinate, as residual streams have
        found = shuffled(sae, 0)
        assert_close(found.W_dec.norm(dim=1), sae.W_dec.norm(dim=1))
        assert_close(found.W_enc.norm(dim=0), sae.W_enc.norm(dim=0))
        assert found.W_dec[:, 3].abs().median() > 10 * found.W_dec[:, [0, 1, 2]].abs().median()
        assert float(found.W_dec[:, 3].std() / sae.W_dec[:, 3].std()) == pytest.approx(1, abs=0.2)
        assert torch.equal(found.b_enc, sae.b_enc) and torch.equal(found.b_dec, sae.b_dec)
        assert torch.equal(found.W_dec, shuffled(sae, 0).W_dec)
        assert not torch.equal(found.W_dec, shuffled(sae, 1).W_dec)
        tied = shuffled(random_sae(unit=True), 0)  # rows and columns are dealt alike
        assert_close(tied.W_dec, tied.W_enc.T)

    def test_a_sum_of_few_rows_is_found_in_the_dictionary_and_not_in_a_shuffled_one(self):
        sae = random_sae(d=64, f=128, unit=True)
        vector = 3 * sae.W_dec[5] - 2 * sae.W_dec[77] + sae.W_dec[101]
        tables = (decompose(vector, each, "signed-pursuit", 8) for each in (sae, shuffled(sae, 0)))
        own, mixed = (table.attrs["explained"] for table in tables)
        assert own == pytest.approx(1, abs=1e-6) and mixed < 0.8


PEAK = """
import pathlib, sys, torch
import companion.mayne.solvers
from steerkit.decomposition import decompose
from steerkit.sae import Sae, load_sae

METHODS, rows = ("encode", "signed-pursuit", "nnls", "lasso"), torch.randn(32, 8)

def status(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

for method in METHODS:  # imports and thread pools are not what is measured
    sae = Sae(rows.T.contiguous(), torch.zeros(32), rows, torch.zeros(8), "relu", False)
    decompose(torch.randn(8), sae, method, 4)
for path in sys.argv[1:]:
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = status("VmRSS")
    sae = load_sae(path)
    for method in METHODS:
        decompose(torch.randn(sae.width), sae, method, 16)
    print((status("VmHWM") - before) / (sae.W_enc.nbytes + sae.W_dec.nbytes))
    del sae
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="reads the peak from Linux")
def test_reading_and_decomposing_peaks_at_one_and_a_half_times_the_weights(tmp_path):
    """Of both forms of a file."""
    sae, (npz, folder) = random_sae(d=1024, f=8192), (tmp_path / "npz.npz", tmp_path / "folder")
    save_sae(sae, folder)
    content = {name: getattr(sae, name).numpy() for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    np.savez(npz, **content, threshold=np.ones(8192, np.float32))
    command = [sys.executable, "-c", PEAK, str(npz), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [0.9 < float(peak) < 1.5 for peak in done.stdout.split()] == [True, True], done.stdout


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
    def test_a_vector_that_cannot_be_decomposed_is_refused(self, vector, words, method, sae):
        refused(decompose, vector, sae, method, said=words)
        refused(reconstruction_curve, vector, sae, [method], [3], said=words)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("count", [81, 0, -1])
    def test_more_features_than_there_are_are_refused(self, method, count, sae, vector):
        words = rf"between 1 and 80 features.*found {count}\."
        refused(decompose, vector, sae, method, count, said=words)
        refused(reconstruction_curve, vector, sae, [method], [4, count], said=words)
        refused(top_features, sae, vector, count, said=words)

    def test_an_unknown_method_names_the_known_ones(self, sae, vector):
        refused(decompose, vector, sae, "omp", 3, said=r"encode, encode-scaled, .*found 'omp'")

    @pytest.mark.parametrize("norm", [None, 0.0, -1.0, 1e300, np.nan, np.inf])
    def test_scaled_encoding_needs_a_norm(self, norm, sae, vector):
        refused(decompose, vector, sae, "encode-scaled", 3, target_norm=norm, said="target_norm")

    ONES = torch.ones(3, 24)

    @pytest.mark.parametrize(
        ("positive", "negative"),
        [
            (None, None),
            (ONES, None),
            (ONES, ONES[:2]),
            (ONES[0], ONES[0]),
            (ONES[:0], ONES[:0]),
            (ONES, ONES * torch.nan),
            (ONES[:, :23], ONES[:, :23]),
        ],
    )
    def test_a_difference_of_encodings_needs_pairs_of_activations(self, positive, negative, sae, vector):
        given = {"positive": positive, "negative": negative}
        refused(decompose, vector, sae, "encode-difference", 3, **given, said=r"activations|width")
