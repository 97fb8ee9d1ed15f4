"""Removes files that nobody needs any more.

These are results that no job uses, files of jobs that ended long ago, and uploads that were never finished.
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
    """Remove artifacts (stored files) that nobody needs any more, and return their number.

    Some of them never became part of a task's accepted result. Others have been kept for the time that `keeping` sets.
    If the process dies during a call, the next call removes the rest.

    Args:
        keeping: How long artifacts are kept.

    Raises:
        Unwritable: The artifact store can't be reached.
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
    """Remove the files of uploads that were never finished, and return how many uploads these were.

    A daemon leaves unfinished files if it is killed during an upload. It also leaves them if an upload breaks off while
    the disk can't be reached. The files of running and of finished uploads stay.

    Raises:
        Deposed: Another daemon leads the farm now.
        Unwritable: The artifact store can't be reached.
    """
    # These files are not being written by this process, and were begun by a daemon that uses the same database.
    begun = files.unfinished()
    if not begun:
        return 0
    files.require()
    # The files were listed before, and only the leader may ask: so no later leader began the files, and no earlier
    # leader can record them any more.
    recorded = store.artifacts.recorded(begun)
    for artifact_id in begun:
        if artifact_id in recorded:
            files.recorded(artifact_id)
        else:
            files.clear(artifact_id)
    return len(begun) - len(recorded)


def clear_older_parts(store: Store, files: ArtifactStore, before: float) -> int:
    """Remove the unfinished files that earlier versions of the farm left, and return the number of removed files.

    Make sure before the call that no other farm shares the artifact store. No daemon of an earlier version may still
    use the store either. Finished artifacts stay, even if their names look like those of unfinished files.

    Args:
        before: A Unix time. Files that were written at this time or later stay.
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
    """Remove artifacts that nobody needs any more, again and again, until the coroutine is cancelled.

    Args:
        keeping: How long artifacts are kept.
        since: The Unix time of this daemon's start. If given, `clear_older_parts` is called once, for the files written
            before that time. Must be None if another farm may share the artifact store.
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
