"""What lies in a store of artifacts, for tests that nothing is left there."""

from __future__ import annotations

import os
from pathlib import Path


def found(root: str | Path) -> list[str]:
    """Every file of a store, hidden ones too, except the mark of the store itself."""
    paths = [Path(folder) / name for folder, _, names in os.walk(root) for name in names]
    return sorted(str(path.relative_to(root)) for path in paths if path.name != ".artifacts")
