"""A leader of a farm's record in a process of its own, to be killed, stopped and cut off."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.pipes import errors_of, out_of

LEADING = Path(__file__).with_name("leading.py")


@contextlib.contextmanager
def leading(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that leads and writes."""
    process = subprocess.Popen(
        [sys.executable, LEADING, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert out_of(process).readline() == "leads\n", errors_of(process).read()
        assert int(out_of(process).readline()) == 1
        yield process
    finally:
        process.kill()
        process.communicate()
