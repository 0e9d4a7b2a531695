"""Questions as they were registered before anything was run: statistics, thresholds, and what would refute them."""

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

FOLDER = Path(__file__).with_name("data") / "registered"


def read(name: str) -> dict[str, Any]:
    """One registration by the name of its file."""
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def table(name: str) -> pd.DataFrame:
    """A registration as a notebook shows it: part, as registered."""
    lines = pd.Series(pd.json_normalize(read(name), sep=": ").iloc[0]).astype(str)
    return lines.rename_axis("part").rename("as registered").reset_index()
