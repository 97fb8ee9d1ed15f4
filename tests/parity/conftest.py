"""One Ltx and one pipeline of Lightricks for all tests of parity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugins.ltx.loading import Ltx
from training.ltx_tiny.parts import MAX_TOKENS

if TYPE_CHECKING:
    from tests.parity.lightricks import Lightricks


@pytest.fixture(scope="session")
def ltx(tiny_folder: Path) -> Ltx:
    return Ltx(tiny_folder, max_tokens=MAX_TOKENS)


@pytest.fixture(scope="session")
def single_file(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.parity import single_file

    return single_file.write(tiny_folder, tmp_path_factory.mktemp("lightricks") / "ltx-tiny.safetensors")


@pytest.fixture(scope="session")
def lightricks(single_file: Path) -> Lightricks:
    from tests.parity.lightricks import Lightricks

    return Lightricks(single_file)
