"""What programs write that tests have started with pipes."""

from __future__ import annotations

import subprocess
from typing import IO, AnyStr


def out_of(program: subprocess.Popen[AnyStr]) -> IO[AnyStr]:
    """Its standard output."""
    assert program.stdout is not None, "it was started without a pipe"
    return program.stdout


def errors_of(program: subprocess.Popen[AnyStr]) -> IO[AnyStr]:
    """Its standard error."""
    assert program.stderr is not None, "it was started without a pipe"
    return program.stderr
