"""Questions as they were registered before anything was run: statistics, thresholds, and what would refute them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).with_name("data") / "registered"


def read(name: str) -> dict[str, Any]:
    """One registration by the name of its file."""
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
