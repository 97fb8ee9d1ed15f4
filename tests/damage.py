"""Kinds of damage that a file can take, for tests of whoever reads it at the next start."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

Spoil = Callable[[Path], None]


def _written(content: bytes) -> Spoil:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def cut(path: Path) -> None:
    """Half of it is there, as after a full disk."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def folder(path: Path) -> None:
    """A folder has its name."""
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    """A pipe has its name, and nobody writes into it: whoever opens it as a file waits for ever."""
    path.unlink()
    os.mkfifo(path)


def loop(path: Path) -> None:
    """A link to itself has its name."""
    path.unlink()
    path.symlink_to(path.name)


def mark(path: Path) -> None:
    """A byte order mark stands before it, as some editors write it."""
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def flip(path: Path, at: int | None = None) -> None:
    """One letter or digit is another, in the middle or where `at` says: it looks like what it was."""
    content = bytearray(path.read_bytes())
    at = len(content) // 2 if at is None else at
    while not chr(content[at]).isalnum():
        at += 1
    # A digit stays a digit, a letter one, and a hexadecimal digit one of those.
    content[at] = content[at] - 1 if content[at] in b"9fFzZ" else content[at] + 1
    path.write_bytes(bytes(content))


OF_TEXT: dict[str, Spoil] = {
    "cut": cut,
    "empty": _written(b""),
    "blank": _written(b" \n"),
    "zeros": _written(bytes(512)),
    "noise": _written(bytes(range(128, 256)) * 4),
    "long": _written(b"x" * ((1 << 20) + 1)),
    "folder": folder,
    "pipe": pipe,
    "loop": loop,
}
OF_JSON: dict[str, Spoil] = OF_TEXT | {
    "text": _written(b"hello"),
    "list": _written(b"[1]"),
    "null": _written(b"null"),
    "without keys": _written(b"{}"),
    "wrong kinds": _written(
        b'{"node_id": 5, "server": [], "joined": {}, "join_secret": 1, "node_key": null, "until": "x"}'
    ),
    "deep": _written(b'{"a":' * 100_000),
}


def spoil(path: Path, how: Spoil) -> None:
    """Damage a file, which must be there."""
    assert path.is_file()
    how(path)


def tree(folder: Path) -> dict[str, bytes]:
    """What lies below a folder, to see that nothing has changed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def copy(home: Path, to: Path) -> Path:
    """A home of its own for one test."""
    return Path(shutil.copytree(home, to))
