"""Files that appear complete or not at all, and folders for work in progress.

A process locks every file and folder that it hasn't finished. The kernel frees the lock when the process ends, for
whatever reason. So an unfinished file or folder without a lock belongs to a dead process, and the next process
removes it. No clock and no list of processes is needed.
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
    """Open the file at `path`, lock it, and return its descriptor. Closing the descriptor frees the lock.

    Args:
        path: The file. It is created if it is missing.
        wait: Whether to wait while another process has the lock.
        mode: The permissions of a file that is created.

    Raises:
        BlockingIOError: Another process has the lock, and `wait` is false.
        OSError: The file can't be opened.
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
        # The process that held the lock has renamed or removed the file meanwhile.
        os.close(handle)


def write_whole(path: Path, content: str | bytes, *, replace: bool = True) -> None:
    """Write a file that appears complete or not at all, and that only its owner can read (0600).

    If there is a folder at `path`, it is first renamed with `set_aside`.

    Args:
        path: The file.
        content: Its content.
        replace: Whether to replace an existing file; if not, an existing file stays as it is.

    Raises:
        OSError: The file can't be written. The error always names a file.
    """
    try:
        _write_whole(path, content, replace)
    except OSError as error:
        # The system names no file if writing to an open file fails.
        error.filename = error.filename or str(path)
        raise


def _write_whole(path: Path, content: str | bytes, replace: bool) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A fixed name, so that a writer replaces the unfinished file of an earlier writer that was killed.
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
    """Make a folder that only its owner can open (mode 0700), and return its path.

    If the folder exists already, its mode is changed to 0700. Raises OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def give_name(finished: Path, path: Path) -> None:
    """Sync a finished file and rename it to `path`, so that its content and its name survive a power cut.

    Args:
        finished: The file. It must be on the same disk as `path`.
        path: The file's new path. A file there is replaced.

    Raises:
        OSError: The disk fails.
    """
    _sync(finished)
    os.replace(finished, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that the names in it survive a power cut."""
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def scratch(folder: Path, name: str, end: Callable[[Path], None] = lambda left: None) -> Iterator[Path]:
    """Make a new work folder (0700) for a `with` block, and remove it when the block ends or fails.

    The function first removes old work folders with the same `name` that dead processes have left.

    Args:
        folder: The folder in which the work folder is made.
        name: A word that says what the work folder is for. The word becomes part of the work folder's name.
        end: Called with each old work folder before its removal. `end` can stop processes that still use the folder.

    Raises:
        OSError: The work folder can't be made.
    """
    clear(folder, f".{name}-*", end)
    while True:
        made = Path(tempfile.mkdtemp(dir=folder, prefix=f".{name}-"))
        # Until the folder is locked, another process may take it for left over and remove it.
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
    """Remove the unfinished files and folders that dead processes have left in `folder`.

    A file or folder that no process has locked belongs to a dead process. Files and folders of other users stay.

    Args:
        folder: The folder to clear.
        pattern: A glob pattern. Only files and folders whose names match it are removed.
        end: Called with each file or folder before it is removed.
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
    """Rename the file or folder at `path` to NAME.damaged-DATE, and return the new path.

    No other file is overwritten. Raises OSError.
    """
    aside = aside_name(path)
    os.rename(path, aside)
    sync_folder(path.parent)
    return aside


def aside_name(path: Path) -> Path:
    """Return an unused path NAME.damaged-DATE beside `path`. DATE is in UTC."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    name, number = f"{path.name}.damaged-{now}", 1
    while os.path.lexists(path.with_name(name)):
        number += 1
        name = f"{path.name}.damaged-{now}-{number}"
    return path.with_name(name)


def start_over(path: Path) -> Path | None:
    """Rename a damaged file with `set_aside`, so that a new file can be made at `path`.

    Returns the new path of the damaged file, or None if there was no file at `path`. Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        return set_aside(path)
    return None


def _is_at(handle: int, path: Path) -> bool:
    """Return whether the open file `handle` is the file at `path`."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle), found)
