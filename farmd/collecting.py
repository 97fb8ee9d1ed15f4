"""Removes files that nobody needs any more: results that weren't used, leftovers of jobs that ended long ago, and
unfinished uploads of a daemon that was killed.
"""

from __future__ import annotations

import asyncio

import structlog

from farm.artifacts import ArtifactStore, Unwritable
from farm.policy.retention import Keeping
from farm.store.errors import DatabaseAway, Deposed
from farm.store.store import Store

log = structlog.get_logger()

EVERY_SECONDS = 60.0


def collect(store: Store, files: ArtifactStore, keeping: Keeping) -> int:
    """Remove artifacts that weren't committed or are no longer kept; return how many.

    The record first gives an artifact up, then its file is removed, then the record notes that it is gone. The next call
    finishes what a crash interrupts. Raises Unwritable if the files are out of reach, because they may still exist.
    """
    store.artifacts.expire(keeping)
    gone = []
    found = store.artifacts.collectable()
    if found:
        files.require()
    for artifact in found:
        try:
            files.remove(artifact.location)
            gone.append(artifact.id)
        except (ValueError, IsADirectoryError) as error:
            # Nothing there is this artifact's, today or tomorrow. Kept in the record, a thousand such would keep all
            # others from being collected.
            log.warning("no file removed: the artifact's record names no file of its own", artifact=artifact.id,
                        at=artifact.location, why=str(error))  # fmt: skip
            gone.append(artifact.id)
        except OSError as error:
            log.warning(
                "an artifact can't be removed", artifact=artifact.id, at=artifact.location, why=str(error)
            )
    return store.artifacts.collected(gone) if gone else 0


def clear_unfinished(store: Store, files: ArtifactStore) -> int:
    """Remove files of artifacts that were never finished or recorded; return the number of artifacts.

    A daemon leaves such files when it is killed, or when the disk is away while an upload breaks off. No file that counts
    is removed: this process isn't writing the listed files, and a daemon of this very record began them. The record is
    asked after they are listed, by its leader: so no later leader began them, and no earlier leader can record them any
    more. Raises Deposed and Unwritable.
    """
    begun = files.unfinished()
    if not begun:
        return 0
    files.require()
    recorded = store.artifacts.recorded(begun)
    for artifact_id in begun:
        if artifact_id in recorded:
            files.recorded(artifact_id)
        else:
            files.clear(artifact_id)
    return len(begun) - len(recorded)


def clear_older_parts(store: Store, files: ArtifactStore, before: float) -> int:
    """Remove unfinished files of earlier versions, last written before Unix time `before`; return how many.

    The artifact store must be this farm's alone, and no daemon of an earlier version may run on it any more. A finished
    artifact may have a name like these files: it stays, because the record names its location.
    """
    found = files.older_parts(before)
    if not found:
        return 0
    files.require()
    recorded = store.artifacts.locations(set(found.values()))
    left = [location for location in found if location not in recorded]
    for location in left:
        try:
            files.remove(location)
        except OSError as error:
            log.warning("an unfinished file can't be removed", at=location, why=str(error))
    return len(left)


async def collect_forever(
    store: Store, files: ArtifactStore, keeping: Keeping, since: float | None = None
) -> None:
    """Collect at intervals until cancelled.

    `since`: Unix time of this daemon's start; None if other farms may share the artifact store. With `since`, files that
    earlier versions left are removed once, while the daemon already serves calls: a walk through the store takes time.
    """
    while True:
        try:
            if count := await asyncio.to_thread(clear_unfinished, store, files):
                log.info("removed unfinished artifacts", artifacts=count)
            if count := await asyncio.to_thread(collect, store, files, keeping):
                log.info("removed artifacts that nobody needs", artifacts=count)
            if since is not None:
                if count := await asyncio.to_thread(clear_older_parts, store, files, since):
                    log.info("removed unfinished files of earlier versions", files=count)
                since = None
        except Deposed:
            raise
        except (DatabaseAway, Unwritable, OSError) as error:
            log.warning("collecting failed; retrying", why=str(error))
        except Exception:
            log.exception("collecting failed; retrying")
        await asyncio.sleep(EVERY_SECONDS)
