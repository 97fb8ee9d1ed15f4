"""Removes the files of losers: artifacts of attempts whose result was not used."""

from __future__ import annotations

import asyncio

import structlog

from farm.artifacts import ArtifactStore
from farm.store.errors import DatabaseAway, Deposed
from farm.store.store import Store

log = structlog.get_logger()

EVERY_SECONDS = 60.0


def collect(store: Store, files: ArtifactStore) -> int:
    """Removes what nobody committed, files first: a crash in between is made good by the next call."""
    lost = store.artifacts.collectable()
    for artifact in lost:
        files.remove(artifact.location)
    if lost:
        store.artifacts.delete([artifact.id for artifact in lost])
    return len(lost)


async def collect_forever(store: Store, files: ArtifactStore) -> None:
    """Collects now and then until it is cancelled."""
    while True:
        try:
            if count := await asyncio.to_thread(collect, store, files):
                log.info("collected what nobody used", artifacts=count)
        except Deposed:
            raise
        except DatabaseAway as error:
            log.warning("collecting failed and is tried again", why=str(error))
        except Exception:
            log.exception("collecting failed and is tried again")
        await asyncio.sleep(EVERY_SECONDS)
