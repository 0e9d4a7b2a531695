"""Take the outputs out of notebooks, and number their cells: `python tools/strip.py notebooks/*.ipynb`."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def strip(path: Path) -> bool:
    """Whether the notebook had to be changed."""
    before = path.read_text(encoding="utf-8")
    content = json.loads(before)
    for number, cell in enumerate(content["cells"]):
        cell["id"] = str(number)
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
            cell["metadata"] = {"tags": tags} if (tags := cell["metadata"].get("tags")) else {}
    after = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    path.write_text(after, encoding="utf-8")
    return after != before


if __name__ == "__main__":
    changed = [name for name in sys.argv[1:] if strip(Path(name))]
    sys.exit(f"stripped: {', '.join(changed)}" if changed else 0)
