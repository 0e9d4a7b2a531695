"""Releases of sae-lens by name: through a stand-in for it, and its own classes where they are installed."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from companion import sae_releases, saes
from steerkit.errors import SteerkitError
from steerkit.sae import save_sae

NAME = "saelens:gpt2-small-res-jb/blocks.8.hook_resid_pre"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERKIT_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """A sae-lens that has one release, a copy of ours; what it is asked for is noted."""
    found = []

    class Sae:
        @classmethod
        def from_pretrained(cls, release, sae_id, device):
            found.append((release, sae_id, device))
            if release != "gpt2-small-res-jb":
                raise ValueError(f"Release {release} not found.")
            return SimpleNamespace(save_model=lambda path: save_sae(saes.tiny_sae(), path))

    monkeypatch.setitem(sys.modules, "sae_lens", SimpleNamespace(SAE=Sae))
    return found


def test_a_release_is_fetched_once_and_then_read_without_sae_lens(cache, asked, monkeypatch):
    first = saes.open_sae(NAME, expect_layer=2)
    monkeypatch.setitem(sys.modules, "sae_lens", None)  # an import of it fails from here on
    again = saes.open_sae(NAME, expect_layer=2)
    assert asked == [("gpt2-small-res-jb", "blocks.8.hook_resid_pre", "cpu")]
    for sae in (first, again):
        assert torch.equal(sae.W_enc, saes.tiny_sae().W_enc)


def test_an_id_may_hold_slashes(cache, asked):
    folder = sae_releases.obtain("saelens:gpt2-small-res-jb/layer_14/width_16k/average_l0_84")
    assert folder.relative_to(cache).parts[-3:] == ("layer_14", "width_16k", "average_l0_84")


def test_without_sae_lens_the_error_says_how_to_get_it(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "sae_lens", None)
    with pytest.raises(SteerkitError, match="pip install 'sae-lens"):
        saes.open_sae(NAME)


def test_what_sae_lens_refuses_leaves_nothing_behind(cache, asked):
    with pytest.raises(SteerkitError, match="Release other not found"):
        sae_releases.obtain("saelens:other/blocks.8")
    assert not [path for path in (cache / "sae" / "other").iterdir() if path.is_dir()]


def test_a_download_that_is_not_allowed_is_not_tried(cache, asked):
    with pytest.raises(SteerkitError, match="not in the cache"):
        sae_releases.obtain(NAME, download=False)
    assert asked == []


@pytest.mark.parametrize("name", ["saelens:", "saelens:release", "saelens:/id", "saelens:release/../../x"])
def test_a_name_of_another_form_is_refused_before_anything_is_asked(cache, asked, name):
    with pytest.raises(SteerkitError, match="RELEASE/ID"):
        sae_releases.obtain(name)
    assert asked == []


def test_the_real_sae_lens_has_what_is_called():
    sae_lens = pytest.importorskip("sae_lens", reason="sae-lens is an optional extra")
    assert callable(sae_lens.SAE.from_pretrained) and callable(sae_lens.SAE.save_model)
