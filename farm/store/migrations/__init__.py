"""The history of the database schema, as Alembic revisions. The first revision makes all tables.

The farm imports this package only when a database needs an upgrade.
"""

from __future__ import annotations

import time
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text

from farm.store.errors import SchemaTooNew
from farm.store.tables import REVISION

log = structlog.get_logger()


def config() -> Config:
    """Return Alembic's configuration, which is made here because there is no alembic.ini."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return settings


def is_known(revision: str) -> bool:
    """Return whether this software can upgrade from `revision`."""
    try:
        ScriptDirectory.from_config(config()).get_revision(revision)
    except CommandError:
        return False
    return True


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the missing revisions within the connection's transaction, and log what each one does.

    For a new database nothing is logged. Raises SchemaTooNew.
    """
    found = _found(connection)
    if found is not None and not is_known(found):
        raise SchemaTooNew(found, REVISION)
    settings, begun = config(), time.monotonic()
    settings.attributes["connection"] = connection
    if found is not None:
        missing = list(ScriptDirectory.from_config(settings).iterate_revisions(revision, found))
        for number, step in enumerate(reversed(missing), 1):
            log.info(
                "upgrading the database", step=f"{number} of {len(missing)}", to=step.revision, what=step.doc
            )
            command.upgrade(settings, step.revision)
        if missing:
            log.info("the database is up to date", seconds=round(time.monotonic() - begun, 1))
        return
    command.upgrade(settings, revision)


def _found(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
