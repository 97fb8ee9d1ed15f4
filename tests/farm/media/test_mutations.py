"""A file with any bytes changed is read, or refused with its name: never a traceback, a crash, a hang or gigabytes."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farm.media.clips import MediaError, probe, read_frames
from farm.processes.children import child_environment, python_command
from tests.farm.media.clips import ffmpeg, noise_clip

MUTATIONS = int(os.environ.get("MEDIA_MUTATIONS", "150"))
"""How many changed files one run reads; `MEDIA_MUTATIONS=5000 pytest …` looks harder."""
MOST_SECONDS = 20.0
MOST_BYTES = 1 << 30
"""More memory than any file of a test needs, and less than a header that lies would take."""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """A small file of each kind, with tags."""
    folder = tmp_path_factory.mktemp("whole")
    made = [noise_clip(folder / "plain.mp4", 4)]
    tags = ("-metadata", "title=Montblanc", "-metadata", "comment=take 3", "-metadata:s:v", "language=fra")
    for name in ("a.mp4", "a.mov", "a.mkv"):
        ffmpeg("-i", made[0], "-c", "copy", *tags, folder / name)
        made.append(folder / name)
    ffmpeg("-i", made[0], "-c:v", "libvpx", "-b:v", "200k", *tags, folder / "a.webm")
    ffmpeg("-i", made[0], folder / "a.gif")
    made += [folder / "a.webm", folder / "a.gif"]
    picture = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 56, 3), np.uint8))
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "Montblanc", 6
    for name in ("a.png", "a.jpg", "a.tif"):
        picture.save(folder / name, exif=exif)
        made.append(folder / name)
    cases = Path(__file__).parents[4] / "shared" / "cases"
    return made + [
        case for case in sorted(cases.glob("*.*")) if case.suffix in (".mp4", ".mov", ".mkv", ".png")
    ]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """`data` with some of it changed: bits, bytes, a cut, a splice, a lie in a length."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 3, 20))):
        at = chance.randrange(len(found))
        match chance.randrange(6):
            case 0:
                found[at] ^= 1 << chance.randrange(8)
            case 1:
                found[at : at + 4] = chance.randbytes(4)
            case 2:
                found[at : at + 4] = chance.choice(
                    (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\1\x86\xa0")
                )
            case 3:
                del found[at : at + chance.randrange(1, 400)]
                found = found or bytearray(b"\0")
            case 4:
                other = chance.randrange(len(found))
                found[at:at] = found[other : other + chance.randrange(1, 400)]
            case 5:
                # Where the tags lie, in most containers.
                near = max(found.rfind(b"Montblanc"), found.rfind(b"udta"), 0)
                end = min(len(found), near + 64)
                found[chance.randrange(near, end) if near < end else at] = chance.randrange(128, 256)
    return bytes(found)


def look(path: Path) -> str:
    """What reading the file comes to: "read", or the refusal."""
    try:
        probe(path, max_frames=500)
        read_frames(path, 48, 32, 24, max_frames=500)
    except MediaError as refusal:
        return str(refusal)
    return "read"


def main() -> None:
    """Reads each file that is named on standard input, with a bound on memory; prints what came of it."""
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    for line in sys.stdin:
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        said = look(Path(line.rstrip("\n")))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        print(f"{time.monotonic() - began:.3f} {grown} {said!r}", flush=True)


def test_a_changed_file_is_read_or_refused_by_its_name(files, tmp_path):
    chance = random.Random(20261128)
    changed = []
    for number in range(MUTATIONS):
        whole = files[number % len(files)]
        path = tmp_path / f"{number}-{whole.name}"
        path.write_bytes(mutated(whole.read_bytes(), chance))
        changed.append(path)
    done = subprocess.run(
        python_command("tests.farm.media.test_mutations"),
        env=child_environment() | {"PYTHONPATH": str(Path(__file__).parents[3])},
        input="".join(f"{path}\n" for path in changed),
        capture_output=True,
        text=True,
        check=False,
        timeout=60 + MUTATIONS,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, (
        f"{changed[len(lines)]} ended its reader ({done.returncode}): {done.stderr[-2000:]}"
    )
    came = dict(zip(changed, (line.split(" ", 2) for line in lines), strict=True))
    assert not {path: one for path, one in came.items() if float(one[0]) > MOST_SECONDS}
    assert not {path: one for path, one in came.items() if int(one[1]) > MOST_BYTES}
    refused = {path: one[2] for path, one in came.items() if one[2] != "'read'"}
    assert not {path: said for path, said in refused.items() if path.name not in said}
    assert MUTATIONS / 10 < len(refused) < MUTATIONS, "both kinds must be among them"


if __name__ == "__main__":
    main()
