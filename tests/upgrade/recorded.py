"""Farms that earlier versions left in the middle of a job, as `record.py` has kept them."""

from __future__ import annotations

import base64
import gzip
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import MetaData, create_engine, select, text

from farm.store.migrations import upgrade

HERE = Path(__file__).parent


class Said(NamedTuple):
    """One message: in which call of which method, by the "node" or the "daemon", and its bytes."""

    method: str
    call: int
    who: str
    message: bytes


@dataclass(frozen=True)
class Recorded:
    """What one version left."""

    folder: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        """Which version it was, and ids of the job and of the attempt that ran."""
        return json.loads((self.folder / "about.json").read_text())

    @property
    def node(self) -> str:
        """Name of the node."""
        return self.about["node"]

    @property
    def latents(self) -> dict[str, np.ndarray]:
        """What that version made of the job, by key: float32 [C, n, h, w]."""
        return dict(np.load(self.folder / "latents.npz"))

    def unpack(self, home: Path) -> Path:
        """Put the farm's home, and in `nodes` the node's, where `home` says; returns it."""
        home.mkdir(mode=0o700)
        with tarfile.open(self.folder / "home.tar.gz") as tar:
            # Older Pythons have no such filter, newer ones warn without.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            tar.extractall(home)
        return home

    def said(self) -> Iterator[Said]:
        """How the node joined, and what both said after the daemon was killed, in order."""
        with gzip.open(self.folder / "calls.jsonl.gz", "rt") as lines:
            for line in lines:
                note = json.loads(line)
                yield Said(note["method"], note["call"], note["who"], base64.b64decode(note["message"]))


def move_to_postgresql(farm_db: Path, url: str) -> None:
    """Move a farm's rows as they are, in the schema of their version, from SQLite to an empty PostgreSQL."""
    old, new = create_engine(f"sqlite:///{farm_db}"), create_engine(url)
    with old.connect() as there, new.begin() as here:
        upgrade(here, there.scalar(text("SELECT version_num FROM alembic_version")))
        schema = MetaData()
        schema.reflect(here)
        for table in schema.sorted_tables:
            rows = [dict(row) for row in there.execute(select(table)).mappings()]
            if rows and table.name != "alembic_version":
                here.execute(table.insert(), rows)
        last = "SELECT setval(pg_get_serial_sequence('events', 'number'), max(number)) FROM events"
        here.execute(text(last))
    old.dispose()
    new.dispose()
    farm_db.unlink()


RECORDED = [Recorded(file.parent) for file in sorted(HERE.glob("*/about.json"))]
