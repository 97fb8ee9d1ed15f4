"""Where farmctl puts a file, as far as that needs no farm."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from farm.cli import main
from tests.farm.cli.runs import variables
from tests.farm.media.clips import HEIC

NULL = Path("/dev/null")


@pytest.mark.parametrize(
    "verb",
    [("submit", "text", "--frames", "9", "-o"), ("job", "watch", "j", "-o"), ("job", "download", "j", "-o"), ("demo", "-o"),
     ("db", "backup")],
    ids=" ".join,
)  # fmt: skip
def test_a_device_is_never_replaced(tmp_path, verb):
    place = tmp_path / "device.mp4"
    place.symlink_to(NULL)
    asked = CliRunner().invoke(main, [*verb, str(place), "--overwrite"], env=variables(tmp_path))
    assert asked.exit_code == 2 and "is a device, a pipe or a socket; give the name of a file" in asked.output
    assert place.is_symlink() and NULL.is_char_device()


@pytest.mark.parametrize("name", ["x.mov", "x.%04d.png", "x"])
def test_a_demo_refuses_an_output_of_another_ending_before_it_starts_anything(tmp_path, name):
    place = tmp_path / "made" / name
    asked = CliRunner().invoke(main, ["demo", "-o", str(place)], env=variables(tmp_path))
    assert asked.exit_code == 2 and "output: must end in .mp4" in asked.output
    assert not place.parent.exists()


def test_a_demo_refuses_a_clip_that_cannot_be_read(tmp_path):
    asked = CliRunner().invoke(
        main, ["demo", "--clip", str(HEIC), "-o", str(tmp_path / "x.mp4")], env=variables(tmp_path)
    )
    assert asked.exit_code == 2 and "clip: " in asked.output and "is a HEIC image" in asked.output
