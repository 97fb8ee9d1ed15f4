"""Files that appear whole or not at all, and folders for work in progress.

What is unfinished is locked by whoever makes it, and the kernel frees the lock however that ends. So a lock that is
free means a dead maker, and the next one removes what it left: no clock and no list of processes is asked.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def take(path: Path, *, wait: bool = True, mode: int = 0o600) -> int:
    """Open the file at `path`, made with `mode` where it isn't there, and lock it; returns the descriptor.

    Closing the descriptor frees the lock. Raises BlockingIOError where another holds it and `wait` is false, OSError.
    """
    while True:
        # A link under that name may be anybody's, and point anywhere.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        # Whoever held it has given it its name, or removed it.
        os.close(handle)


def write_whole(path: Path, content: str | bytes, *, replace: bool = True) -> None:
    """Put `content` at `path`, for its owner alone (0600), synced; without `replace` a file that is there stays.

    It is written under one fixed name beside `path`, so that what a killed writer left goes with the next. A folder in
    its place is set aside. Raises OSError, which always names a file.
    """
    try:
        _write_whole(path, content, replace)
    except OSError as error:
        # The system names none where a file that is open can't be written.
        error.filename = error.filename or str(path)
        raise


def _write_whole(path: Path, content: str | bytes, replace: bool) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    handle = take(part)
    try:
        if not replace and path.exists():
            part.unlink()
            return
        with open(handle, "wb", closefd=False) as file:
            file.truncate(0)
            file.write(content.encode() if isinstance(content, str) else content)
        if path.is_dir() and not path.is_symlink():
            set_aside(path)
        give_name(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def private_folder(folder: Path) -> Path:
    """Make a folder for its owner alone (0700), also one that was open to others, and return it. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def give_name(finished: Path, path: Path) -> None:
    """Rename a finished file of the same disk to `path`, so that content and name survive a power cut. Raises OSError."""
    _sync(finished)
    os.replace(finished, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` survive a power cut."""
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def scratch(folder: Path, name: str, end: Callable[[Path], None] = lambda left: None) -> Iterator[Path]:
    """A new folder (0700) in `folder` for the time of the block; gone however that ends.

    Those that killed processes left there under the same `name` go first; `end` is called with each before, to end what
    still works in it. Raises OSError.
    """
    clear(folder, f".{name}-*", end)
    while True:
        made = Path(tempfile.mkdtemp(dir=folder, prefix=f".{name}-"))
        # Another may take it for left over before it is locked.
        try:
            handle = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_at(handle, made):
            break
        os.close(handle)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(handle)


def clear(folder: Path, pattern: str, end: Callable[[Path], None] = lambda left: None) -> None:
    """Remove the files and folders of this user's in `folder` that match `pattern` and that nobody holds locked.

    `end` is called with each before it goes.
    """
    for path in sorted(folder.glob(pattern)):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if os.fstat(handle).st_uid != os.getuid():
                    continue
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _is_at(handle, path):
                    continue
                end(path)
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
            finally:
                os.close(handle)


def set_aside(path: Path) -> Path:
    """Rename what lies at `path` to NAME.damaged-DATE, which is returned; nothing is overwritten. Raises OSError."""
    aside = aside_name(path)
    os.rename(path, aside)
    sync_folder(path.parent)
    return aside


def aside_name(path: Path) -> Path:
    """NAME.damaged-DATE for `path`, which nothing has yet. DATE is UTC."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    name, number = f"{path.name}.damaged-{now}", 1
    while os.path.lexists(path.with_name(name)):
        number += 1
        name = f"{path.name}.damaged-{now}-{number}"
    return path.with_name(name)


def start_over(path: Path) -> Path | None:
    """Make room for a file that is simply made again: what is in its way is set aside; None if nothing was.

    Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        return set_aside(path)
    return None


def _is_at(handle: int, path: Path) -> bool:
    """True if the open file is the one at `path`."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle), found)
