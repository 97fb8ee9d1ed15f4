"""Removes files that nobody needs any more: of attempts whose result was not used, of jobs long ended, and of uploads
that were broken off with their daemon.
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
    """Removes what nobody committed and what is kept no longer; returns how many artifacts.

    First it is given up for good, then its files go, then the record says so: a crash in between is made good by the
    next call. Raises Unwritable when the files are out of reach, which must not be taken for gone.
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
            log.warning("its record names no file of its own; nothing is removed", artifact=artifact.id,
                        at=artifact.location, why=str(error))  # fmt: skip
            gone.append(artifact.id)
        except OSError as error:
            log.warning("can't be removed", artifact=artifact.id, at=artifact.location, why=str(error))
    return store.artifacts.collected(gone) if gone else 0


def clear_unfinished(store: Store, files: ArtifactStore) -> int:
    """Remove what was begun to be stored and has no record; returns how many artifacts.

    A daemon that was killed leaves it, and a disk that was away when an upload broke off. Nothing that counts can go:
    what is listed is being stored by nobody in this process and was begun by a daemon of this very record. Only then the
    record is asked, as its leader, so that none of it was begun by a later leader, and an earlier leader can record
    nothing any more. Raises Deposed and Unwritable.
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
    """Remove parts that earlier versions left, last written before Unix time `before`; returns how many.

    For a store that is this farm's alone, before which no daemon of an earlier version runs any more. A finished
    artifact may be called so too: then the record says that it lies there.
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
            log.warning("can't be removed", at=location, why=str(error))
    return len(left)


async def collect_forever(
    store: Store, files: ArtifactStore, keeping: Keeping, since: float | None = None
) -> None:
    """Collects now and then until it is cancelled.

    `since`: Unix time of this daemon's start where the store is this farm's alone, None where others may share it. What
    earlier versions left there is removed once, beside all that is served: a walk through the store takes its time.
    """
    while True:
        try:
            if count := await asyncio.to_thread(clear_unfinished, store, files):
                log.info("removed what was begun and not finished", artifacts=count)
            if count := await asyncio.to_thread(collect, store, files, keeping):
                log.info("collected what nobody needs", artifacts=count)
            if since is not None:
                if count := await asyncio.to_thread(clear_older_parts, store, files, since):
                    log.info("removed what earlier versions had begun and not finished", files=count)
                since = None
        except Deposed:
            raise
        except (DatabaseAway, Unwritable, OSError) as error:
            log.warning("collecting failed and is tried again", why=str(error))
        except Exception:
            log.exception("collecting failed and is tried again")
        await asyncio.sleep(EVERY_SECONDS)
