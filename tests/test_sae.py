"""Sparse autoencoders: every activation against loops, both file formats there and back, everything that is refused."""

import hashlib
import io
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import refused
from safetensors.torch import save_file
from saved_sae import PLAIN, save_sae
from torch.testing import assert_close

from steerkit.errors import SteerkitError
from steerkit.sae import Sae, check_fits, load_sae

D, F, POST = 6, 20, "blocks.3.hook_resid_post"
GEMMA = "gemma-scope-2b-pt-res/layer_14/width_16k/average_l0_84"
CONFIG = PLAIN | {"architecture": "jumprelu", "d_in": D, "d_sae": F, "apply_b_dec_to_input": False}
CONFIG |= {"metadata": {"sae_lens_version": "6.1.0", "model_name": "m", "hook_name": POST}}


def arrays() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (D, F), "b_enc": (F,), "W_dec": (F, D), "b_dec": (D,), "threshold": (F,)}
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return drawn | {"threshold": drawn["threshold"].abs()}


def make(kind: str, subtract: bool = False, **other) -> Sae:
    drawn = arrays() | ({} if kind == "jumprelu" else {"threshold": None})
    return Sae(**(drawn | other), kind=kind, subtract_decoder_bias=subtract)


def write_npz(folder, **changes):
    path = folder / GEMMA / "params.npz"
    path.parent.mkdir(parents=True)
    content = {name: array.numpy() for name, array in arrays().items()} | changes
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    return path


def write_folder(folder, config: dict = CONFIG, without: str = "", **changes):
    folder.mkdir(exist_ok=True)
    content = {name: array for name, array in (arrays() | changes).items() if name != without}
    save_file(content, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


X = torch.randn(3, 4, D, generator=torch.Generator().manual_seed(9)) * 2


def naive_pre(sae: Sae, x: torch.Tensor) -> list[float]:
    """Pre-activations of one input, in loops and float64."""
    bias = [float(each) * sae.subtract_decoder_bias for each in sae.b_dec]
    return [
        float(sae.b_enc[j]) + sum((float(x[i]) - bias[i]) * float(sae.W_enc[i, j]) for i in range(sae.width))
        for j in range(sae.n_features)
    ]


class TestActivations:
    @pytest.mark.parametrize("subtract", [False, True])
    @pytest.mark.parametrize("kind", ["relu", "jumprelu", "topk", "batchtopk with threshold"])
    def test_features_are_those_of_loops(self, kind, subtract):
        """And the pre-activations, with the decoder bias subtracted from the input or not, as the file says."""
        threshold = arrays()["threshold"]
        more = {"topk": {"k": 5}, "batchtopk with threshold": {"k": 5, "threshold": threshold}}.get(kind, {})
        sae = make(kind.split()[0], subtract, **more)
        features, before = sae.encode(X), sae.pre_activations(X).reshape(-1, F)
        assert features.shape == (3, 4, F)
        for row, found, x in zip(features.reshape(-1, F), before, X.reshape(-1, D), strict=True):
            pre = naive_pre(sae, x)
            if kind == "relu":
                expected = [max(p, 0.0) for p in pre]
            elif kind == "topk":
                largest = sorted(range(F), key=lambda j: -pre[j])[:5]
                expected = [max(p, 0.0) if j in largest else 0.0 for j, p in enumerate(pre)]
            else:
                expected = [p * (p > t and p > 0) for p, t in zip(pre, threshold.tolist(), strict=True)]
            assert_close(found, torch.tensor(pre), atol=1e-5, rtol=1e-5)
            assert_close(row, torch.tensor(expected), atol=1e-5, rtol=1e-5)

    def test_topk_gives_no_negative_feature_when_too_few_are_positive(self):
        sae = make("topk", k=3, b_enc=torch.full((F,), -100.0))
        assert torch.equal(sae.encode(X), torch.zeros(3, 4, F))

    def test_a_feature_at_its_threshold_is_off_and_a_negative_threshold_lets_nothing_negative_through(self):
        eye, nothing = torch.eye(2), torch.zeros(2)
        sae = Sae(eye, nothing, eye, nothing, "jumprelu", False, threshold=torch.ones(2))
        assert sae.encode(torch.tensor([1.0, 1.001])).tolist() == [0.0, pytest.approx(1.001)]
        sae = make("jumprelu", threshold=torch.full((F,), -3.0))
        assert_close(sae.encode(X), sae.pre_activations(X).relu())

    def test_batchtopk_without_a_threshold_keeps_the_largest_of_the_whole_batch(self):
        sae = make("batchtopk", k=2.5)
        found = sae.encode(X)
        pre = sae.pre_activations(X).relu()
        assert int((found != 0).sum()) == int(2.5 * 12)
        assert found[found != 0].min() >= pre[found == 0].max()
        assert_close(found[found != 0], pre[found != 0])
        assert len(set((found != 0).sum(-1).flatten().tolist())) > 1

    def test_decoding_adds_the_bias_once(self):
        sae = make("relu")
        one = torch.zeros(F)
        one[7] = 2.0
        assert_close(sae.decode(one), 2 * sae.W_dec[7] + sae.b_dec)
        assert_close(sae.decode(torch.zeros(2, F)), sae.b_dec.expand(2, D))

    def test_half_precision_inputs_are_computed_in_float32(self):
        sae = make("relu")
        assert_close(sae.encode(X.half()), sae.encode(X.half().float()))
        assert sae.encode(X.half()).dtype == torch.float32


class TestGemmaScope:
    def test_it_is_jumprelu_without_subtraction_and_knows_its_place(self, tmp_path):
        path = write_npz(tmp_path)
        sae = load_sae(path, width=D, layer=14)
        for name, expected in arrays().items():
            assert torch.equal(getattr(sae, name), expected)
        place = {"layer": 14, "hook": "blocks.14.hook_resid_post", "model": "gemma-2-2b"}
        file = {"source": f"{GEMMA}/params.npz", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        kind = {"kind": "jumprelu", "subtract_decoder_bias": False, "k": None, "width": D, "n_features": F}
        assert sae.about() == place | file | kind
        assert load_sae(path.parent).about() == sae.about()

    @pytest.mark.parametrize(
        ("release", "model", "hook"),
        [
            ("gemma-scope-9b-it-res", "gemma-2-9b-it", "blocks.14.hook_resid_post"),
            ("gemma-scope-2b-pt-mlp", "gemma-2-2b", "blocks.14.hook_mlp_out"),
            ("mine", "", ""),
        ],
    )
    def test_the_folder_names_say_which_model_and_site(self, tmp_path, release, model, hook):
        outer = tmp_path / "layer_3_of_mine"  # of several numbers on the way the last is the layer
        write_npz(outer)
        (outer / "gemma-scope-2b-pt-res").rename(outer / release)
        sae = load_sae(outer / release / "layer_14/width_16k/average_l0_84")
        assert (sae.model, sae.hook, sae.layer) == (model, hook, 14)

    def test_other_precisions_and_memory_orders_and_lower_case_names_are_read(self, tmp_path):
        drawn, ones = arrays(), np.ones(F, np.float32)
        short = {"W_enc": None, "b_dec": drawn["b_dec"].half().numpy(), "scaling_factor": ones}
        turned = np.asfortranarray(drawn["W_enc"].double().numpy())
        sae = load_sae(write_npz(tmp_path, **short, w_enc=turned))
        assert torch.equal(sae.W_enc, drawn["W_enc"]) and sae.W_enc.dtype == torch.float32
        assert torch.equal(sae.b_dec, drawn["b_dec"].half().float())

    def test_a_file_that_names_no_layer_is_taken_at_the_callers_word(self, tmp_path):
        path = write_npz(tmp_path).rename(tmp_path / "mine.npz")
        assert load_sae(path).layer is None
        assert load_sae(path, layer=3).layer == 3

    def test_pickled_arrays_are_never_opened(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return (pytest.fail, ("unpickled",))

        with pytest.raises(SteerkitError, match=r"pickled objects.*nothing was unpickled"):
            load_sae(write_npz(tmp_path, b_enc=np.array([Bomb()], dtype=object)))

    @pytest.mark.parametrize("content", ["nothing", "text", "half", "flipped", "one array"])
    def test_a_file_that_is_no_npz_is_refused(self, tmp_path, content):
        path, array = write_npz(tmp_path), io.BytesIO()
        whole = path.read_bytes()
        np.save(array, np.zeros(3))
        middle = whole.index(arrays()["W_dec"].numpy().tobytes()[:16])
        flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
        half = whole[: len(whole) // 2]
        spoilt = {"nothing": b"", "text": b"w", "half": half, "flipped": flipped}
        spoilt["one array"] = array.getvalue()
        path.write_bytes(spoilt[content])
        refused(load_sae, path, said=r"an npz file of plain arrays in params\.npz.*Nothing was read")

    def test_a_scaling_factor_and_whole_numbers_and_embeddings_are_refused(self, tmp_path):
        refused(load_sae, write_npz(tmp_path / "a", scaling_factor=np.full(F, 2.0)), said="scaling_factor")
        with pytest.raises(SteerkitError, match="floating-point numbers in b_enc"):
            load_sae(write_npz(tmp_path / "b", b_enc=np.ones(F, int)))
        refused(load_sae, write_npz(tmp_path / "embedding"), said="embeddings")


OLD_TOPK = {"architecture": "standard", "activation_fn_str": "topk"}


class TestFolders:
    @pytest.mark.parametrize("subtract", [False, True])
    @pytest.mark.parametrize("kind", ["relu", "jumprelu", "topk"])
    def test_what_was_saved_is_read_again(self, tmp_path, kind, subtract):
        place = {"layer": 3, "hook": "blocks.3.hook_resid_post", "model": "tiny", "source": "here"}
        sae = make(kind, subtract, k=4 if kind == "topk" else None, **place)
        save_sae(sae, tmp_path / "sae")
        found = load_sae(tmp_path / "sae", width=D, layer=3)
        assert found.about() == sae.about() | {"sha256": found.sha256}
        assert torch.equal(found.encode(X), sae.encode(X))
        assert torch.equal(found.decode(found.encode(X)), sae.decode(sae.encode(X)))

    @pytest.mark.parametrize(
        ("config", "kind", "k", "layer"),
        [
            ({"hook_point": POST, "activation_fn_str": "relu"}, "relu", None, 3),
            ({"hook_point": "blocks.3.hook_resid_pre", "hook_point_layer": 3}, "relu", None, 2),
            ({"hook_name": POST, "hook_layer": 3, "architecture": "jumprelu"}, "jumprelu", None, 3),
            (OLD_TOPK | {"hook_name": POST, "activation_fn_kwargs": {"k": 5}}, "topk", 5, 3),
            ({"hook_name": POST, "architecture": "topk", "activation_fn_kwargs": {"k": 4}}, "topk", 4, 3),
            ({"hook_layer": 3, "normalize_activations": None}, "relu", None, 3),
            ({"hook_layer": 3, "normalize_activations": False}, "relu", None, 3),
            ({"architecture": "topk", "k": 7, "metadata": {"hook_name": "model.layers.3"}}, "topk", 7, 3),
        ],
    )
    def test_the_spellings_of_versions_4_to_6_are_understood(self, tmp_path, config, kind, k, layer):
        without = "" if kind == "jumprelu" else "threshold"
        folder = write_folder(tmp_path, {"d_in": D, "d_sae": F, **config}, without=without)
        sae = load_sae(folder, layer=layer)
        assert (sae.kind, sae.k, sae.layer) == (kind, k, layer)
        assert sae.subtract_decoder_bias  # the default of all versions
        assert (sae.threshold is not None) == (kind == "jumprelu")

    def test_thresholds_that_the_architecture_does_not_have_are_refused(self, tmp_path):
        """A folder that has lost its architecture would be read as plain ReLU."""
        folder = write_folder(tmp_path, {"d_in": D, "d_sae": F, "hook_name": POST})
        assert refused(lambda: load_sae(folder)).found.startswith("relu, and threshold beside it")

    def test_activations_rescaled_by_decoder_norms_are_folded_into_the_encoder(self, tmp_path):
        """Loops: the k largest of pre * |row|, which the decoder divides by |row| again."""
        config = CONFIG | {"architecture": "topk", "k": 5, "rescale_acts_by_decoder_norm": True}
        folder = write_folder(tmp_path, config, without="threshold")
        before = (folder / "sae_weights.safetensors").read_bytes()
        sae, plain = load_sae(folder), make("topk", k=5)
        norms = plain.W_dec.norm(dim=1)
        for x in X.reshape(-1, D):
            pre, expected = torch.tensor(naive_pre(plain, x)) * norms, torch.zeros(F)
            largest = pre.argsort(descending=True)[:5]
            expected[largest] = pre[largest].clamp_min(0)
            assert_close(sae.encode(x), expected, atol=1e-5, rtol=1e-5)
            output = expected / norms @ plain.W_dec + plain.b_dec
            assert_close(sae.decode(sae.encode(x)), output, atol=1e-4, rtol=1e-4)
        assert (folder / "sae_weights.safetensors").read_bytes() == before

    def test_thresholds_of_training_checkpoints_become_thresholds(self, tmp_path):
        log, topk = arrays()["threshold"].log(), torch.tensor(1.5, dtype=torch.float64)
        sae = load_sae(write_folder(tmp_path / "a", without="threshold", log_threshold=log))
        assert_close(sae.threshold, arrays()["threshold"])
        config = CONFIG | {"architecture": "batchtopk", "k": 4.0}
        sae = load_sae(write_folder(tmp_path / "b", config, without="threshold", topk_threshold=topk))
        assert sae.kind == "batchtopk" and sae.threshold.tolist() == [1.5] * F

    def test_weights_in_bfloat16_are_read_as_float32(self, tmp_path):
        short = {name: array.bfloat16() for name, array in arrays().items()}
        sae = load_sae(write_folder(tmp_path, **short))
        assert sae.W_dec.dtype == torch.float32 and torch.equal(sae.W_dec, short["W_dec"].float())

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"architecture": "gated"}, "architecture 'gated'"),
            ({"architecture": "matryoshka_batchtopk"}, "architecture 'matryoshka_batchtopk'"),
            ({"activation_fn": "tanh-relu"}, "activation_fn 'tanh-relu'"),
            ({"normalize_activations": "layer_norm"}, "normalize_activations 'layer_norm'"),
            ({"normalize_activations": True}, "normalize_activations True"),
            ({"reshape_activations": "hook_z"}, "reshape_activations 'hook_z'"),
            ({"apply_b_dec_to_input": "yes"}, "'yes'"),
            ({"rescale_acts_by_decoder_norm": "false"}, "as bool in cfg.json; found 'false'"),
            ({"hook_name": POST, "hook_point": "blocks.2.hook_resid_post"}, "two values of hook_name"),
            ({"hook_name": POST, "hook_layer": 2}, "hook_layer 3, as in blocks.3"),
            ({"hook_name": POST, "hook_name_out": "blocks.3.hook_mlp_out"}, "a transcoder, from"),
            ({"hook_name": POST, "hook_head_index": 3}, "one head of it"),
            ({"hook_name": "vision_tower.layers.3"}, "decoder of a language model"),
            ({"model_from_pretrained_kwargs": {"center_writing_weights": True}}, "weights were centred"),
            ({"d_in": D + 1}, "d_in 6, the size of the weights, in cfg.json; found 7"),
            ({"d_sae": 3}, "d_sae 20"),
            ({"hook_name": 5}, "hook_name as str in cfg.json; found 5"),
            ({"hook_layer": "2"}, "hook_layer as int"),
            ({"architecture": ["standard"]}, "architecture as str"),
            ({"architecture": "topk", "k": 2.5}, f"k between 1 and {F} for topk; found 2.5"),
            *(({"architecture": "topk", "k": k}, f"1 and {F} for topk") for k in (None, 0, F + 1, "5")),
            ({"architecture": "batchtopk", "k": None}, f"k between 1 and {F} for batchtopk"),
        ],
    )
    def test_a_setting_that_would_be_read_wrongly_is_refused(self, tmp_path, change, words):
        without = "threshold" if "k" in change else ""
        refused(load_sae, write_folder(tmp_path, CONFIG | change, without), said=words)

    @pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec", "threshold"])
    def test_a_missing_array_is_named(self, tmp_path, name):
        for written in (write_npz(tmp_path, **{name: None}), write_folder(tmp_path / "f", without=name)):
            refused(load_sae, written, said=f"found no {name} .*Nothing was read")

    @pytest.mark.parametrize(
        ("arrays", "said"),
        [
            ({"W_skip": torch.ones(D, D)}, "W_skip as well"),
            ({"log_threshold": torch.ones(F)}, "one threshold in .*log_threshold"),
            ({"W_dec": torch.ones(F)}, "of two dimensions"),
            ({"scaling_factor": torch.full((F,), 2.0)}, "scaling_factor"),
        ],
    )
    def test_arrays_that_would_be_left_out_or_misread_are_refused(self, tmp_path, arrays, said):
        refused(load_sae, write_folder(tmp_path, **arrays), said=said)

    @pytest.mark.parametrize("text", [None, "", "[]", "{", '{"metadata": 3}', "[" * 99999])
    def test_a_configuration_that_is_none_is_refused(self, tmp_path, text):
        folder = write_folder(tmp_path)
        (folder / "cfg.json").unlink() if text is None else (folder / "cfg.json").write_text(text)
        refused(load_sae, folder, said=r"a SAELens configuration in cfg\.json")

    def test_damaged_weights_are_refused(self, tmp_path):
        weights = write_folder(tmp_path) / "sae_weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-8])
        refused(load_sae, tmp_path, said="a safetensors file")


class TestWhatDoesNotFit:
    def test_a_wrong_hash_is_refused_before_anything_is_read(self, tmp_path):
        path = write_npz(tmp_path)
        right = hashlib.sha256(path.read_bytes()).hexdigest()
        assert load_sae(path, sha256=right.upper()).sha256 == right
        path.write_bytes(b"something else")
        refused(load_sae, path, sha256=right, said=f"sha256 {right} of params.npz; found .*Nothing was read")

    @pytest.mark.parametrize("name", ["none.npz", "none", "empty"])
    def test_a_path_without_an_autoencoder_is_refused(self, tmp_path, name):
        (tmp_path / "empty").mkdir()
        refused(load_sae, tmp_path / name, said=r"an autoencoder in .*No such file")

    def test_another_width_is_refused(self, tmp_path):
        refused(load_sae, write_npz(tmp_path), width=7, said=rf"width {D}, .*{GEMMA}.*found width 7")
        refused(make("relu").encode, torch.zeros(7), said="found width 7")

    FITS = ((POST, 3), ("blocks.4.hook_resid_pre", 3), ("model.layers.3", 3), ("", 3))
    DOES_NOT = ((POST, 4), ("blocks.3.hook_mlp_out", 3), ("blocks.3.hook_resid_mid", 3), ("", None))

    def test_another_layer_or_site_is_refused(self):
        for hook, layer in self.FITS:
            check_fits(make("relu", hook=hook, layer=layer), D, 3)
        for hook, layer in self.DOES_NOT:
            with pytest.raises(SteerkitError, match="residual stream after block 3"):
                check_fits(make("relu", hook=hook, layer=layer), D, 3)

    @pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec", "threshold"])
    def test_weights_that_are_not_finite_or_do_not_belong_together_are_refused(self, name):
        for bad in (torch.nan, torch.inf, -torch.inf):
            broken = arrays()[name].clone()
            broken.view(-1)[-1] = bad
            refused(make, "jumprelu", said=f"finite numbers in {name}", **{name: broken})
        refused(make, "jumprelu", said=" of shape ", **{name: arrays()[name][:-1]})
        refused(make, "relu", said="decoder directions whose norm", W_dec=arrays()["W_dec"] * 1e30)

    def test_a_vector_as_weights_an_unknown_kind_and_jumprelu_without_threshold_are_refused(self):
        refused(make, "relu", W_enc=torch.zeros(3), said=r"W_enc of shape \[0, 0\]")
        refused(make, "gelu", said="found 'gelu'")
        refused(replace, make("jumprelu"), threshold=None, said="threshold for jumprelu")


@pytest.fixture(scope="module")
def sae_lens():
    """sae-lens itself, where it is installed; its own warnings are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("sae_lens", reason="the comparison with sae-lens needs sae-lens 6")


class TestAgainstSaeLens:
    @pytest.mark.parametrize("architecture", ["standard", "jumprelu", "topk"])
    def test_we_read_its_folders_and_compute_the_same(self, tmp_path, sae_lens, architecture):
        known = {"standard": "StandardSAE", "jumprelu": "JumpReLUSAE", "topk": "TopKSAE"}[architecture]
        more = {"k": 5, "rescale_acts_by_decoder_norm": True} if architecture == "topk" else {}
        theirs = getattr(sae_lens, known)(getattr(sae_lens, f"{known}Config")(d_in=D, d_sae=F, **more))
        own = theirs.state_dict()
        theirs.load_state_dict({name: value for name, value in arrays().items() if name in own})
        theirs.save_model(tmp_path)
        sae = load_sae(tmp_path)
        with torch.no_grad():
            found = theirs.encode(X)
            assert_close(sae.encode(X), found, atol=2e-6, rtol=1e-6)
            assert_close(sae.decode(sae.encode(X)), theirs.decode(found), atol=1e-5, rtol=1e-6)

    def test_a_gemma_scope_file_means_the_same_to_both(self, tmp_path, sae_lens, monkeypatch):
        from sae_lens.loading import pretrained_sae_loaders as loaders

        path = write_npz(tmp_path)
        monkeypatch.setattr(loaders, "hf_hub_download", lambda **asked: str(path))
        release, folder = GEMMA.split("/", 1)
        config, weights, _ = loaders.gemma_2_sae_huggingface_loader(f"google/{release}", folder)
        sae, shape = load_sae(path), {"d_in": D, "d_sae": F}
        shape["apply_b_dec_to_input"] = config["apply_b_dec_to_input"]
        theirs = sae_lens.JumpReLUSAE(sae_lens.JumpReLUSAEConfig(**shape))
        theirs.load_state_dict(weights)
        with torch.no_grad():
            assert_close(sae.encode(X), theirs.encode(X), atol=1e-6, rtol=1e-6)
        assert config["architecture"] == sae.kind and config["hook_name"] == sae.hook
