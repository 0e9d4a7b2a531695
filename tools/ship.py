"""What an installed package takes along: notebooks, profiles and records, which a clone has at its top."""

import shutil
from pathlib import Path

from setuptools.command.build_py import build_py

SHIPPED = {"notebooks": "*.ipynb", "profiles": "*.yaml", "records": "*/*.parquet"}


class BuildPy(build_py):
    """The usual step, and copies in `companion/shipped`, where `companion.places` looks for them."""

    def run(self) -> None:
        """Build; an editable installation reads the clone."""
        super().run()
        if not self.editable_mode:
            for folder, names in SHIPPED.items():
                for path in Path(folder).glob(names):
                    target = Path(self.build_lib, "companion", "shipped", path)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, target)
