"""The script that Alembic runs for each migration.

It uses the connection and transaction that were given to farm.store.migrations.upgrade.
"""

from __future__ import annotations

from alembic import context

from farm.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite too: the store begins its transactions itself, so a broken upgrade leaves nothing behind.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
