"""Find out whether a disk caused an error: a disk of this machine, or the disk of the farm's artifact store."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from farm.rendering import InputDamaged, StorageFailed

_OF_DISKS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.ENODEV,
    errno.ENOTCONN,
}
_FULL = os.strerror(errno.ENOSPC)
_TRIED_BYTES = 1 << 16


def damaged_input(error: BaseException) -> InputDamaged | None:
    """Return the first InputDamaged error among `error` and the causes of `error`; None if there is none."""
    return next((at for at in _chain(error) if isinstance(at, InputDamaged)), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__ or at.__context__


def disk_trouble(error: BaseException, folder: Path) -> str:
    """Return what is wrong with the disk or the artifact store; "" if neither caused `error`.

    Some libraries don't mention the disk in their errors. So if `error` doesn't mention a disk, the function writes a
    test file to `folder`, to see whether the disk works.

    Args:
        error: the error that ended an attempt's work.
        folder: the folder in which that work was done.
    """
    for at in _chain(error):
        if isinstance(at, StorageFailed) or (isinstance(at, OSError) and at.errno in _OF_DISKS):
            return str(at)
        if _FULL in str(at):
            return _FULL
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / ".trial"
        try:
            with trial.open("wb") as file:
                file.write(bytes(_TRIED_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            trial.unlink(missing_ok=True)
    except OSError as problem:
        return f"this machine's disk: {problem}"
    return ""
