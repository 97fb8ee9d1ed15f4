"""The doors of the farm: what `farmctl`, `farmd` and `farm-node` run first.

A studio's pipeline sets PYTHONPATH, and may have packages named `farm`, `plugins` or `scheduler` there. So this module has a
name that nobody else uses, and imports nothing of the farm before Python looks into the farm's own folders alone.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import site
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO, cast


def farmctl() -> None:
    """Run `farmctl`."""
    _begin()
    from farm.cli import main

    _run(main)


def farmd() -> None:
    """Run `farmd`."""
    _begin()
    from farmd.main import main

    _run(main)


def farm_node() -> None:
    """Run `farm-node`."""
    _begin()
    from nodeagent.agent import main

    _run(main)


def in_user_site() -> bool:
    """Whether `pip install --user` has put the farm into the user's site folder, which no process can do without then."""
    return Path(__file__).is_relative_to(site.getusersitepackages())


def _begin() -> None:
    _open_descriptors()
    _alone()
    # Set before gRPC is imported: what goes wrong there reaches people in the farm's own words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
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
        # Not before the farm's own folders are found, see above.
        from farm.outside_text import hidden

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


def _run(main: Callable[[], None]) -> None:
    """Run a program, and end with a sentence where what it prints can't be written."""
    try:
        try:
            main()
        finally:
            sys.stdout.flush()
    except _Unprintable as error:
        # Else Python would try it once more, and tell of it in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(f"{Path(sys.argv[0]).name}: standard output can't be written: {error.strerror}")


def _open_descriptors() -> None:
    """Where standard input, output or error is closed, nothing else may come into its place: it would be printed into."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _alone() -> None:
    """Begin this program again without the caller's PYTHON* variables and the user's site folder, where there are any."""
    named = any(name.startswith("PYTHON") for name in os.environ)
    users = site.ENABLE_USER_SITE and os.path.isdir(site.getusersitepackages())
    if sys.flags.ignore_environment or not (named or users):
        return
    flags = ("-E", "-P") if in_user_site() else ("-I",)
    if not _found(flags):
        program = Path(sys.argv[0]).name
        sys.exit(
            f"{program}: the farm is found at {Path(__file__).parent} through PYTHONPATH or the user's own packages alone, "
            f"and takes neither, lest others' packages get into it. Install it into a virtual environment and call the "
            f"{program} there"
        )
    os.execv(sys.executable, [sys.executable, *flags, *sys.argv])


def _found(flags: Sequence[str]) -> bool:
    """Whether Python finds this module when it is started with `flags`."""
    theirs = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    mine = Path(__file__).resolve().parent
    if not any(folder and Path(folder).resolve() == mine for folder in theirs) and not site.ENABLE_USER_SITE:
        return True
    look = "import sys\ntry: import ltx_farm\nexcept ImportError: sys.exit(1)"
    return os.spawnv(os.P_WAIT, sys.executable, [sys.executable, *flags, "-c", look]) == 0
