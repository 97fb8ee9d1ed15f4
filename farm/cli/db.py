"""farmctl db: upgrade, back up and restore the farm's database, on the machine that has it. Needs no daemon."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import click

from farm.cli.printing import note, size
from farm.cli.server_parts import needs_server_parts
from farm.client.errors import FarmError
from farm.client.transfer import check_output
from farm.config import FarmConfig, load_config
from farm.processes.detached import this_process

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
@click.option(
    "--config", "path", type=_FILE, help="The farm.toml to read. Default: the file that farmd reads."
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of the farm's state. Default: FARM_HOME, or ~/.farm.",
)
@click.pass_context
def db(ctx: click.Context, path: Path | None, home: Path | None) -> None:
    """Upgrade, back up and restore the farm's database.

    The commands use the database that `store.url` in farm.toml names, even while farmd is stopped. Run the commands
    as the user that runs farmd.

    The database doesn't contain the artifacts. After each backup, also copy the folder of artifacts
    (`artifacts.url` in farm.toml).

    \b
    Examples:
      farmctl db backup /backups/farm-monday.db
      farmctl db --config /etc/farm.toml restore /backups/farm-monday.db
    """
    ctx.obj = load_config(path, os.environ, {"home": home})


@db.command()
@click.pass_obj
@needs_server_parts
def upgrade(config: FarmConfig) -> None:
    """Upgrade the database to the schema of this version. farmd also does so whenever it starts.

    \b
    Example:
      farmctl db upgrade
    """
    from farm.logs import configure_logs
    from farm.store.store import Store
    from farm.store.tables import REVISION

    configure_logs("info", config.log.format, "farmctl")  # each step says what it does
    with _told(config):
        Store.lead(config.store_url, this_process("farmctl db upgrade")).close()
    click.echo(f"the farm's database has schema {REVISION}")


@db.command()
@click.argument("file", type=_FILE)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@click.pass_obj
@needs_server_parts
def backup(config: FarmConfig, file: Path, overwrite: bool) -> None:
    """Write a backup of the database to FILE.

    The farm can keep rendering during the backup. FILE appears once the backup is complete, not before. With
    PostgreSQL, this command needs pg_dump.

    \b
    Example:
      farmctl db backup /backups/farm-$(date +%F).db
    """
    from farm.store.backup import back_up

    check_output(file, overwrite)
    with _told(config):
        back_up(config.store_url, file)
    click.echo(f"{file}: {size(file.stat().st_size)}")
    note(f"artifacts are not part of the backup; copy them from {config.artifact_url}")


@db.command()
@click.argument("file", type=_FILE)
@click.option(
    "--force",
    is_flag=True,
    help="Restore even if the database is not empty. The backup then replaces everything in the database.",
)
@click.pass_obj
@needs_server_parts
def restore(config: FarmConfig, file: Path, force: bool) -> None:
    """Restore the database from the backup FILE. Stop farmd first.

    When farmd starts again, farmd continues from the state in the backup. If a renderer still works on a task that
    was running at the time of the backup, farmd accepts the renderer's result. Otherwise farmd gives the task to
    another renderer after a delay (`leases.requeue` in farm.toml).

    With PostgreSQL, this command needs pg_restore.

    \b
    Example:
      farmctl db restore /backups/farm-monday.db
    """
    from farm.store.backup import restore as put_back

    with _told(config):
        aside = put_back(config.store_url, file, this_process("farmctl db restore"), force=force)
    click.echo(f"the farm's database is restored from {file}")
    if aside:
        note(f"the old database file was damaged, or wasn't the database of a farm; it is now at {aside}")
    note(f"artifacts are not part of a backup; the farm looks for artifacts in {config.artifact_url}")


@contextlib.contextmanager
def _told(config: FarmConfig) -> Iterator[None]:
    """Turn the store's refusals into errors of the command line."""
    from farm.store.errors import StoreError

    config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        yield
    except (StoreError, ValueError) as error:
        raise FarmError(str(error)) from None
