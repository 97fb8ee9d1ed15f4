"""A real farm on this machine, started and ended with farmctl itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result

from farm.cli import main
from tests.farm.cli.runs import processes, run, variables
from tests.traps import lay_traps, sprung

Farmctl = Callable[..., Result]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a farm with one node that declares its device.

    It is called in a folder of traps, and its processes work in such folders.
    """
    home = tmp_path_factory.mktemp("cli")
    called_in = lay_traps(tmp_path_factory.mktemp("traps"))
    node = home / "nodes" / "1"
    trapped = [called_in, *map(lay_traps, (home, home / "ray", home / "run", node, node / "ray"))]
    (home / "node.toml").write_text(
        '[[device]]\nname = "trial"\nbackend = "cpu"\nvram = "2GiB"\nthreads = 1\n'
    )
    started = run(home, "up", "--detach", cwd=called_in)
    assert started.returncode == 0, started.stderr
    assert len(processes(home)) > 4
    yield home
    ended = run(home, "down", cwd=called_in)
    assert ended.returncode == 0, ended.stderr
    assert "ended what was left" not in ended.stderr, "agents and daemon must end their own"
    assert processes(home) == []
    assert {folder: sprung(folder) for folder in trapped if sprung(folder)} == {}


@pytest.fixture
def farmctl(home: Path) -> Farmctl:
    """Calls farmctl on the farm, in this process."""
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments], env=variables(home))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine frames, 64x64, 30 fps."""
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=30)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(9):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * number, np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path
