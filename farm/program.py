"""Runs the programs `farmctl`, `farmd` and `farm-node`: prepares their standard streams, and flushes their output.

The scripts of the three programs are made from packaging/programs/farmctl. These scripts tell Python to ignore the
PYTHON* variables and the import folders of the caller.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO, cast

from farm.outside_text import hidden


def run_program(name: str, module: str) -> None:
    """Run a program. If the program's output can't be written, print a sentence that says so, and exit.

    Args:
        name: The name of the program.
        module: The name of the module that has the program's click command, called `main`. The module is imported
            after the standard streams are prepared.
    """
    _open_descriptors()
    # Set before gRPC is imported: the farm reports gRPC's errors in its own words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    _take_over_streams()
    try:
        try:
            importlib.import_module(module).main(prog_name=name)
        finally:
            sys.stdout.flush()
    except _Unprintable as error:
        # Otherwise Python would try to write once more, and report the error in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(f"{name}: standard output can't be written: {error.strerror}")


def _open_descriptors() -> None:
    """Open a closed standard input, output or error to /dev/null, so that no other file takes its place and its text."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _take_over_streams() -> None:
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - it stays open until the end
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    # A letter that the terminal's encoding lacks is shown as its number.
    sys.stderr = _instead(sys.stderr, _Errors, _Discreet)
    sys.stdout = _instead(sys.stdout, _Output)
    # Python falls back to these two when sys.stdout and sys.stderr are restored.
    vars(sys).update(__stderr__=sys.stderr, __stdout__=sys.stdout)


def _instead(
    stream: TextIO,
    kind: type[io.TextIOWrapper],
    over: Callable[[Any], Any] = lambda raw: raw,
) -> io.TextIOWrapper:
    """Return a stream of `kind` over the bytes of `stream`, passed through `over`. `stream` itself can't be used any more."""
    before = cast(io.TextIOWrapper, stream)
    encoding, by_line = before.encoding, before.line_buffering
    return kind(over(before.detach()), encoding, "backslashreplace", None, by_line)


class _Errors(io.TextIOWrapper):
    """Standard error that may be full or closed: the message is then lost, and the program goes on."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


class _Discreet(io.BufferedIOBase):
    """The bytes of standard error, with every token hidden, also in messages of Python and click.

    People paste tokens into wrong places, and CI keeps its logs. The filter works on bytes, because click writes bytes
    directly if the locale is ASCII.
    """

    def __init__(self, below: Any) -> None:
        self._below = below

    def write(self, data: Any) -> int:
        # Each byte is a letter in Latin-1; those of a token are the same in every encoding.
        self._below.write(hidden(bytes(data).decode("latin-1")).encode("latin-1"))
        return len(data)

    def flush(self) -> None:
        self._below.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._below.fileno()

    def isatty(self) -> bool:
        return self._below.isatty()


class _Unprintable(OSError):
    """Standard output can't be written any more."""


class _Output(io.TextIOWrapper):
    """Standard output with an error class of its own, so that no other file's error is taken for it."""

    def write(self, text: str) -> int:
        return _told(super().write, text)

    def flush(self) -> None:
        _told(super().flush)


def _told(write: Callable[..., Any], *what: str) -> Any:
    try:
        return write(*what)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF):
            raise
        raise _Unprintable(error.errno, error.strerror) from None
