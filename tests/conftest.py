"""What every test may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ltx-tiny checkpoint, built once a session."""
    from plugins.ltx import tiny

    return tiny.build(tmp_path_factory.mktemp("models") / "ltx-tiny")
