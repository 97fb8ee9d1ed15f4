"""What `farmctl`, `farmd` and `farm-node` do before and after their work: descriptors, and what they print.

Their scripts are packaging/programs/farmctl. Those start Python without the caller's variables and folders.
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
    """Run a program, and end with a sentence where what it prints can't be written.

    Args:
        name: How the program is called.
        module: Where its `main` is, a click command. The module is imported once standard output is ready for it.
    """
    _open_descriptors()
    # Set before gRPC is imported: what goes wrong there reaches people in the farm's own words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    _take_over_streams()
    try:
        try:
            importlib.import_module(module).main(prog_name=name)
        finally:
            sys.stdout.flush()
    except _Unprintable as error:
        # Else Python would try it once more, and tell of it in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(f"{name}: standard output can't be written: {error.strerror}")


def _open_descriptors() -> None:
    """Open standard input, output and error where they are closed: what opens in their place would be printed into."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _take_over_streams() -> None:
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - it stays open until the end
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    # In an encoding that lacks a letter of somebody's name, that letter is shown as its number.
    sys.stderr = _instead(sys.stderr, _Errors, _Discreet)
    sys.stdout = _instead(sys.stdout, _Output)
    # What Python falls back to when the two above are put back.
    vars(sys).update(__stderr__=sys.stderr, __stdout__=sys.stdout)


def _instead(
    stream: TextIO,
    kind: type[io.TextIOWrapper],
    over: Callable[[Any], Any] = lambda raw: raw,
) -> io.TextIOWrapper:
    """A stream of `kind` over the bytes of `stream`, passed through `over`; `stream` is closed to all others."""
    before = cast(io.TextIOWrapper, stream)
    encoding, by_line = before.encoding, before.line_buffering
    return kind(over(before.detach()), encoding, "backslashreplace", None, by_line)


class _Errors(io.TextIOWrapper):
    """Standard error that may be full or closed: what was to be said is lost then, and what was to be done is done."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


class _Discreet(io.BufferedIOBase):
    """The bytes of standard error, whatever is said there, by Python and click too, without any token.

    People paste tokens in wrong places, and CI keeps what it reads. Bytes: click goes past the text where a locale is ASCII.
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
    """Standard output took nothing more."""


class _Output(io.TextIOWrapper):
    """Standard output that says by itself when it can't be written: no other file's error is taken for its own."""

    def write(self, text: str) -> int:
        return _told(super().write, text)

    def flush(self) -> None:
        _told(super().flush)


def _told(write: Callable, *what: str) -> Any:
    try:
        return write(*what)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF):
            raise
        raise _Unprintable(error.errno, error.strerror) from None
