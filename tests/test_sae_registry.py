"""Autoencoders by name: the tiny one has every part, files are found or their absence is said in one sentence;
releases of sae-lens come through a stand-in for it, and its own classes where they are installed."""

import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import refused
from saved_sae import save_sae

from companion import saes
from companion.saes import SCOPE_NAMES, default_sae, open_sae, tiny_sae


def report(name: str) -> dict:
    """What was measured when an embedded one was trained, a file beside its weights."""
    return json.loads((saes.EMBEDDED / name / "report.json").read_text())


def scope_file(folder: Path) -> Path:
    """A small file in the layout of Gemma Scope."""
    rng, d, f = np.random.default_rng(0), 6, 20
    shapes = {"W_enc": (d, f), "b_enc": (f,), "W_dec": (f, d), "b_dec": (d,), "threshold": (f,)}
    path = folder / "layer_14" / "width_16k" / "average_l0_84" / "params.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, **{name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()})
    return path


class TestTiny:
    def test_it_has_every_part_and_is_the_same_in_every_run(self):
        first = open_sae("tiny", 32, 2)
        assert first.n_features == 8 * first.width and first.kind == "jumprelu"
        assert not first.subtract_decoder_bias and bool(first.b_dec.abs().min() > 0)
        assert first.threshold.unique().numel() > 100
        tiny_sae.cache_clear()
        again = tiny_sae()
        assert first is not again and torch.equal(first.W_enc, again.W_enc)
        assert torch.equal(first.threshold, again.threshold)

    def test_it_has_partners_that_point_the_other_way_and_features_that_zero_activates(self):
        sae = tiny_sae()
        cosines = torch.nn.functional.cosine_similarity(*sae.W_dec.chunk(2))
        torch.testing.assert_close(cosines, torch.full_like(cosines, -0.8), atol=1e-5, rtol=0)
        assert (sae.encode(torch.zeros(32)) > 0).nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


class TestNames:
    def test_a_model_has_its_own_and_one_without_says_what_to_give(self):
        models = ("tiny", "smollm2-135m", "gemma-2-2b")
        assert [default_sae(model) for model in models] == ["tiny", "smollm2-135m", SCOPE_NAMES[0]]
        refused(default_sae, "gpt-j", said=r"found gpt-j\..*give the path")

    def test_an_unknown_name_lists_the_known_ones_and_another_width_or_layer_is_refused(self):
        refused(open_sae, "tinny", said=r"tiny, smollm2-135m, gemma.*found 'tinny'")
        refused(open_sae, "tiny", 576, None, said="width 576")
        refused(open_sae, "tiny", None, 1, said="block 2")


class TestFiles:
    def test_a_file_that_does_not_say_its_layer_is_taken_at_the_callers_word(self, tmp_path):
        silent = scope_file(tmp_path).replace(tmp_path / "params.npz")
        assert open_sae(str(silent)).layer is None
        assert open_sae(str(silent), 6, 3).layer == 3

    def test_the_embedded_one_is_read_or_missed_in_one_sentence(self, tmp_path, monkeypatch):
        monkeypatch.setattr(saes, "EMBEDDED", tmp_path)
        refused(open_sae, "smollm2-135m", said=r"smollm2-135m in the package's data; found none.*train_sae")
        save_sae(tiny_sae(), tmp_path / "smollm2-135m")
        found = open_sae("smollm2-135m")
        assert torch.equal(found.W_dec, tiny_sae().W_dec) and len(found.sha256) == 64

    @pytest.mark.parametrize("l0", [84, 23, 43, 173, 388])  # the first is the canonical file
    def test_a_hub_file_is_asked_for_at_its_pinned_revision(self, tmp_path, monkeypatch, l0):
        asked, path = [], scope_file(tmp_path)

        def fetch(repository, name, **options):
            asked.append((repository, name, options))
            return str(path)

        monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
        sae = open_sae(f"gemma-scope-2b-l14-16k-l0-{l0}", 6, 14)
        options = {"revision": "fd571b47c1c64851e9b1989792367b9babb4af63", "local_files_only": False}
        name = f"layer_14/width_16k/average_l0_{l0}/params.npz"
        assert asked == [("google/gemma-scope-2b-pt-res", name, options)]
        assert sae.layer == 14 and not sae.subtract_decoder_bias
        assert SCOPE_NAMES[0].endswith("-84") and len(SCOPE_NAMES) == 5

    @pytest.mark.parametrize(
        ("download", "message"),
        [(True, "OSError: no route; check|OSError: no route. Nothing"), (False, "not in the cache")],
    )
    def test_a_hub_that_cannot_be_reached_is_one_clear_error(self, monkeypatch, download, message):
        def fetch(*_, **options):
            assert options["local_files_only"] is not download
            raise OSError("no route.\nsecond line")

        monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
        error = refused(open_sae, SCOPE_NAMES[1], download=download, said=message)
        assert "average_l0_23" in str(error) and "second line" not in str(error)


class TestEmbedded:
    """The autoencoders of the default model, as they were asked for and as their reports say. In the second the mean of
    the activations was left in the input."""

    @pytest.mark.parametrize("name", ["smollm2-135m", "smollm2-135m-unfolded"])
    def test_each_report_is_of_these_weights(self, name):
        found, sae = report(name)["held_out"], open_sae(name)
        weights = saes.EMBEDDED / name / "sae_weights.safetensors"
        assert found["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
        assert found["zero_vector_activates"] == int((sae.encode(torch.zeros(576)) > 0).sum())
        assert weights.stat().st_size <= 40e6
        torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(sae.n_features), atol=1e-3, rtol=0)

    def test_the_first_is_built_like_those_of_gemma_scope_and_good_enough(self):
        sae, found = open_sae("smollm2-135m", 576, 18), report("smollm2-135m")["held_out"]
        assert sae.kind == "jumprelu" and sae.n_features >= 8 * 576
        assert not sae.subtract_decoder_bias and bool(sae.b_enc.abs().max() > 0)
        assert sae.threshold.unique().numel() > 1000 and bool((sae.threshold >= 0).all())
        assert found["explained"] >= 0.75 and found["dead_share"] <= 0.1 and 60 <= found["l0"] <= 100
        assert 0.9 < found["spliced"]["loss_recovered"] < 1 and found["tokens"] >= 20_000

    def test_the_second_reads_what_the_first_one_reads_and_zero_activates_nothing_in_it(self):
        first, second = open_sae("smollm2-135m", 576, 18), open_sae("smollm2-135m-unfolded", 576, 18)
        assert (second.kind, second.n_features, second.hook) == (first.kind, first.n_features, first.hook)
        assert report("smollm2-135m-unfolded")["trained"]["settings"]["mean"] == "input"
        assert not (second.encode(torch.zeros(576)) > 0).any() and (first.encode(torch.zeros(576)) > 0).any()


NAME = "saelens:gpt2-small-res-jb/blocks.8.hook_resid_pre"


@pytest.fixture
def asked(own_folders, monkeypatch):
    """A sae-lens that has one release, a copy of ours; what it is asked for is noted."""
    found = []

    class Sae:
        @classmethod
        def from_pretrained(cls, release, sae_id, device):
            found.append((release, sae_id, device))
            if release != "gpt2-small-res-jb":
                raise ValueError(f"Release {release} not found.")
            return SimpleNamespace(save_model=lambda path: save_sae(tiny_sae(), path))

    monkeypatch.setitem(sys.modules, "sae_lens", SimpleNamespace(SAE=Sae))
    return found


def test_a_release_is_fetched_once_and_then_read_without_sae_lens(asked, own_folders, monkeypatch):
    name = "saelens:gpt2-small-res-jb/layer_14/width_16k/l0_84"  # an id may hold slashes
    first = open_sae(name, expect_layer=2)
    monkeypatch.setitem(sys.modules, "sae_lens", None)  # an import of it fails from here on
    again = open_sae(name, expect_layer=2)
    assert asked == [("gpt2-small-res-jb", "layer_14/width_16k/l0_84", "cpu")]
    assert saes.path_of(name) == own_folders / "cache/sae/gpt2-small-res-jb/layer_14/width_16k/l0_84"
    for sae in (first, again):
        assert torch.equal(sae.W_enc, tiny_sae().W_enc)


def test_what_sae_lens_refuses_or_must_not_fetch_leaves_nothing_behind(asked, own_folders, monkeypatch):
    for name in ("", "release", "/id", "release/../../x", "../x/y"):  # names of another form
        refused(saes.path_of, f"saelens:{name}", said="RELEASE/ID")
    refused(saes.path_of, "saelens:other/blocks.8", said="Release other not found")
    assert not [path for path in (own_folders / "cache" / "sae" / "other").iterdir() if path.is_dir()]
    refused(open_sae, NAME, download=False, said="not in the cache")
    assert len(asked) == 1
    monkeypatch.setitem(sys.modules, "sae_lens", None)
    refused(open_sae, NAME, said="pip install 'sae-lens")


def test_a_window_of_held_out_text_with_a_run_that_was_trained_on_is_left_out(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "tools"))
    from report_sae import RUN, without_shared_text

    rng = np.random.default_rng(0)
    known, others = (rng.integers(0, 49_152, (200, 128)) for _ in range(2))
    others[3, 50 : 50 + RUN] = known[7, 9 : 9 + RUN]  # one run
    others[4, 20 : 20 + RUN] = known.reshape(-1)[128 * 5 - 3 : 128 * 5 - 3 + RUN]  # across two windows
    others[5, 90 : 90 + RUN - 1] = known[8, : RUN - 1]  # one token short of a run
    template = rng.integers(0, 49_152, RUN)
    known[:3, :RUN] = others[6, 40 : 40 + RUN] = template  # in three windows: more than one percent
    kept = without_shared_text(known, others)
    assert kept.tolist() == np.delete(others, [3, 4], axis=0).tolist()


def test_the_real_sae_lens_has_what_is_called():
    sae_lens = pytest.importorskip("sae_lens", reason="sae-lens is an optional extra")
    assert callable(sae_lens.SAE.from_pretrained) and callable(sae_lens.SAE.save_model)
