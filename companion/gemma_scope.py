"""What the folder names of Gemma Scope say of its files, which are silent: model and site.

`gemma-scope-2b-pt-res/layer_14/width_16k/average_l0_84/params.npz` reads the residual stream of Gemma-2-2B. Importing
this tells the library's reader.
"""

import re
from typing import Any

from steerkit.sae_files import RELEASES

_RELEASE = re.compile(r"gemma-scope-(?P<size>\d+b)-(?P<tuning>pt|it)-(?P<site>res|mlp|att)")
_HOOKS = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}


def place(path: str, found: dict[str, Any]) -> dict[str, Any]:
    """Source, model and hook of a file of the release; nothing of another one."""
    release, layer = _RELEASE.search(path), found["layer"]
    if not release:
        return {}
    hook = "" if layer is None else f"blocks.{layer}.{_HOOKS[release['site']]}"
    model = f"gemma-2-{release['size']}" + ("-it" if release["tuning"] == "it" else "")
    return {"source": f"{release[0]}/{found['source']}", "model": model, "hook": hook}


RELEASES["gemma-scope"] = place
