"""The history of the schema, in Alembic revisions; the first makes all tables.

Nothing here is imported unless a database is behind.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text

from farm.store.errors import SchemaTooNew


def config() -> Config:
    """Alembic's configuration; there is no alembic.ini."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return settings


def upgrade(connection: Connection) -> None:
    """Run the missing revisions within the connection's transaction. Raises SchemaTooNew."""
    settings = config()
    script = ScriptDirectory.from_config(settings)
    found = _found(connection)
    if found is not None:
        try:
            script.get_revision(found)
        except CommandError:
            raise SchemaTooNew(found, script.get_current_head() or "") from None
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


def _found(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
