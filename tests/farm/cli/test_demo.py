"""farmctl demo leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from farm.cli.demo import _end_farm
from farm.durable import scratch
from tests.farm.cli.runs import PROGRAM, environment, processes
from tests.pipes import out_of


def test_what_a_killed_demo_left_running_is_ended_by_the_next(tmp_path_factory):
    place = tmp_path_factory.mktemp("t")
    demo = subprocess.Popen(
        [*PROGRAM, "demo", "--nodes", "1", "--frames", "9", "--size", "64x64", "-o", place / "demo.mp4"],
        env=environment(place) | {"TMPDIR": str(place)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = ""
    while "note: model: ltx-tiny is made for sizes" not in said:
        line = out_of(demo).readline()
        assert line, said
        said += line
    assert "a farm of 1 node is up" in said and "window/0" not in said, (
        "it is told before anything is rendered"
    )
    demo.kill()
    demo.communicate()
    (folder,) = place.glob(".farm-demo-*")
    assert processes(folder / "farm")
    with scratch(Path(place), f"farm-demo-{os.getuid()}", _end_farm) as next_folder:
        assert not folder.exists() and next_folder.exists()
        assert processes(folder / "farm") == []
