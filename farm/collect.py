"""Removes files that nobody needs any more: of attempts whose result was not used, and of jobs long ended."""

from __future__ import annotations

import asyncio

import structlog

from farm.artifacts import ArtifactStore, Unwritable
from farm.keeping import Keeping
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
        except OSError as error:
            log.warning("can't be removed", artifact=artifact.id, at=artifact.location, why=str(error))
    return store.artifacts.collected(gone) if gone else 0


async def collect_forever(store: Store, files: ArtifactStore, keeping: Keeping) -> None:
    """Collects now and then until it is cancelled."""
    while True:
        try:
            if count := await asyncio.to_thread(collect, store, files, keeping):
                log.info("collected what nobody needs", artifacts=count)
        except Deposed:
            raise
        except (DatabaseAway, Unwritable) as error:
            log.warning("collecting failed and is tried again", why=str(error))
        except Exception:
            log.exception("collecting failed and is tried again")
        await asyncio.sleep(EVERY_SECONDS)
