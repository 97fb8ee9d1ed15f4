"""farmctl db: the farm's record, on the machine that has its database. Needs no daemon."""

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
@click.option("--config", "path", type=_FILE, help="farm.toml to read. Default: as farmd's.")
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the farm's state. Default: FARM_HOME, or ~/.farm.",
)
@click.pass_context
def db(ctx: click.Context, path: Path | None, home: Path | None) -> None:
    """Upgrade, back up and restore the farm's database.

    Works on the database in farm.toml (store.url), whether a daemon runs or not, as the user that farmd runs as.
    Artifacts are not in it: keep a copy of their folder (artifacts.url) that is as new as the backup, or newer.

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
    """Bring the database to this version's schema; farmd does so by itself when it starts.

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
@click.option("--overwrite", is_flag=True, help="Replace FILE if there is one.")
@click.pass_obj
@needs_server_parts
def backup(config: FarmConfig, file: Path, overwrite: bool) -> None:
    """Write the whole record to FILE: jobs, results, nodes, events as they are at one moment.

    The farm may go on rendering. FILE appears when it is whole. With PostgreSQL this needs pg_dump.

    \b
    Example:
      farmctl db backup /backups/farm-$(date +%F).db
    """
    from farm.store.backup import back_up

    check_output(file, overwrite)
    with _told(config):
        back_up(config.store_url, file)
    click.echo(f"{file}: {size(file.stat().st_size)}")
    note(f"artifacts are not part of it; they lie in {config.artifact_url}")


@db.command()
@click.argument("file", type=_FILE)
@click.option("--force", is_flag=True, help="Replace everything that is in the database.")
@click.pass_obj
@needs_server_parts
def restore(config: FarmConfig, file: Path, force: bool) -> None:
    """Make the database what it was when FILE was written. No daemon may run on it.

    farmd goes on from there at its next start: what renderers still hold is taken, what nobody holds any more is
    given to others after the requeue delay. With PostgreSQL this needs pg_restore.

    \b
    Example:
      farmctl db restore /backups/farm-monday.db
    """
    from farm.store.backup import restore as put_back

    with _told(config):
        aside = put_back(config.store_url, file, this_process("farmctl db restore"), force=force)
    click.echo(f"the farm's database is what it was in {file}")
    if aside:
        note(f"what was there was damaged or not a farm's; it is kept as {aside}")
    note(f"artifacts are not part of a backup; the farm looks for them in {config.artifact_url}")


@contextlib.contextmanager
def _told(config: FarmConfig) -> Iterator[None]:
    """The store's refusals as the command line's."""
    from farm.store.errors import StoreError

    config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        yield
    except (StoreError, ValueError) as error:
        raise FarmError(str(error)) from None
