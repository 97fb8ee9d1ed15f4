"""The program farmd: starts the parts of the daemon, serves until a signal arrives, and stops the parts in order."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import structlog
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from farm import __version__
from farm.artifacts import ArtifactStore, UnusableArtifactsUrl, holds_artifacts
from farm.config import FarmConfig, InvalidConfig, load_config
from farm.damaged_files import DamagedFile, is_of_files, of_system
from farm.logs import configure_logs, variables
from farm.media.reader import MediaReader
from farm.outside_text import hidden, shown
from farm.plugins import PluginTrouble, catalogue, planning_plugins
from farm.processes.detached import this_process
from farm.processes.ray_process import RayHead
from farm.processes.sole import HomeInUse, sole_process
from farm.store.database import parse
from farm.store.errors import DatabaseAway, StoreError
from farm.store.store import Store
from farm.wire import addresses, ports
from farm.wire.addresses import NoAddress
from farm.wire.channels import SERVER_OPTIONS
from farm.wire.ports import PortTaken
from farm.wire.security import Authority, ray_token_file, ray_token_path
from farm.wire.sockets import socket_path
from farmd.api.gate import Gate
from farmd.api.nodes import NodeTerms
from farmd.collecting import collect_forever
from farmd.fits import Fits
from farmd.intake import Intake, unknown_pins
from farmd.services import NAMES, Parts, add_services
from farmd.whereabouts import Whereabouts
from scheduler.dispatch.job_watchers import JobWatchers
from scheduler.dispatch.loop import Dispatcher
from scheduler.dispatch.sessions import Sessions

if TYPE_CHECKING:
    from scheduler.dispatch.ray.backend import RayBackend

log = structlog.get_logger()

_LEADING_SECONDS = 1.0


class CannotListen(Exception):
    """The daemon can't listen on its port."""


_REFUSALS = (
    CannotListen, DamagedFile, HomeInUse, InvalidConfig, NoAddress, PluginTrouble, PortTaken, StoreError, UnusableArtifactsUrl,
)  # fmt: skip
"""What ends a start with a line that says everything."""


def ray_backend(config: FarmConfig) -> RayBackend:
    """Return the backend, which runs the farm's work on a Ray cluster.

    If the config names an existing cluster, the backend joins it. Otherwise the farm has a cluster of its own.
    """
    from scheduler.dispatch.ray.backend import RayBackend

    folder, token = config.home / "ray", ray_token_path(config.home)
    head = RayHead(folder, "", config.ray.port, token)

    def node_ip() -> str:
        said = config.ray.node_ip, config.server.listen, config.server.advertise
        return addresses.in_cluster(*said, addresses.look(), head.running_ip())

    return RayBackend(
        folder, socket_path(config.home, "bridge.sock"), node_ip, token, head, config.ray.address
    )


async def keep_leading(store: Store) -> None:
    """Keep this daemon the leader, the only writer of the farm's database. Raises Deposed once another daemon leads."""
    away = False
    while True:
        try:
            await asyncio.to_thread(store.keep_leading)
            if away:
                log.info("the database is back")
            away = False
        except DatabaseAway as error:
            if not away:
                log.warning("the database is away", why=str(error))
            away = True
        await asyncio.sleep(_LEADING_SECONDS)


async def serve(config: FarmConfig) -> None:
    """Run the farm until SIGTERM or SIGINT. Ray and its renderers go on without the daemon.

    The daemon first reads its stored files and opens its port. Only then does it start processes. If the start fails,
    the daemon ends the processes that it has started.

    Raises:
        NoAddress, DamagedFile, StoreError, CannotListen: The farm can't start.
        Deposed: Another daemon has taken over the farm.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as unless_up:
        daemon = await _start(config, unless_up)
    await _run(config, daemon, stopping)


@dataclass(frozen=True)
class _Daemon:
    """What a started daemon consists of. `started` is when its start began, in Unix time; `port` is the gRPC server's."""

    started: float
    where: Whereabouts
    backend: RayBackend
    reader: MediaReader
    parts: Parts
    dispatcher: Dispatcher
    server: aio.Server
    port: int
    health_service: health.aio.HealthServicer


async def _start(config: FarmConfig, unless_up: contextlib.AsyncExitStack) -> _Daemon:
    """Start all parts of the daemon. `unless_up` undoes the first steps if a later step fails."""
    started = time.time()
    _warn_of_foreign_address(config.ray.node_ip)
    authority = Authority.open(config.home)
    where = Whereabouts(authority, config.server.listen, config.server.advertise)
    store = await _lead(config, unless_up)
    files = await _open_files(config, authority, store)
    ray_token = _ray_token(config.home)
    backend = ray_backend(config)
    server, port = await _listen(config.server.listen, authority, where, unless_up)
    unless_up.push_async_callback(backend.end_begun)
    await backend.start()
    terms = NodeTerms(
        ray_address=lambda: backend.address,
        ray_token=ray_token,
        heartbeat=config.leases.heartbeat,
        lease=config.leases.lease,
        servers=lambda: where.servers(port, backend.node_ip),
    )
    reader = MediaReader(config.home)
    parts, dispatcher = _parts(config, store, files, authority, backend, reader, terms)
    health_service = await _start_serving(server, parts)
    await asyncio.to_thread(where.write, port, backend.node_ip)
    unless_up.pop_all()
    log.info(
        "farmd is up",
        version=__version__,
        listen=addresses.joined(addresses.split(config.server.listen)[0], port),
        ray=backend.address,
        home=str(config.home),
    )
    return _Daemon(started, where, backend, reader, parts, dispatcher, server, port, health_service)


async def _run(config: FarmConfig, daemon: _Daemon, stopping: asyncio.Event) -> None:
    """Do the daemon's work until `stopping` is set or a part of the work fails. Then stop the daemon's parts in order."""
    store, files, backend = daemon.parts.store, daemon.parts.files, daemon.backend
    told = asyncio.create_task(stopping.wait())
    # None of these ends by itself; a daemon without one of them would only look alive.
    work = [
        asyncio.create_task(keep_leading(store)),
        asyncio.create_task(daemon.dispatcher.run()),
        asyncio.create_task(daemon.where.keep(daemon.port, lambda: backend.node_ip)),
        # In its home the store is this farm's alone: nobody else can have left anything there.
        asyncio.create_task(
            collect_forever(store, files, config.keeping, None if config.artifacts.url else daemon.started)
        ),
    ]
    ended, _ = await asyncio.wait({told, *work}, return_when=asyncio.FIRST_COMPLETED)
    log.info("farmd is stopping; renderers go on")
    await daemon.health_service.enter_graceful_shutdown()
    for task in (told, *work):
        task.cancel()
    daemon.parts.sessions.close_all()
    await daemon.server.stop(grace=2.0)
    await backend.close()
    daemon.reader.close()
    store.close()
    for task in ended:
        task.result()


def _warn_of_foreign_address(node_ip: str) -> None:
    if node_ip and not addresses.is_here(node_ip):
        log.warning(
            "ray.node_ip is no address of this machine, so workstations can't reach Ray", node_ip=node_ip
        )


async def _lead(config: FarmConfig, unless_up: contextlib.AsyncExitStack) -> Store:
    """Open the farm's database as its only writer."""

    def lived() -> str:
        return config.artifact_url if holds_artifacts(config.artifact_url) else ""

    store = await asyncio.to_thread(
        Store.lead, config.store_url, this_process("farmd"), terms=config.terms, lived=lived
    )
    unless_up.callback(store.close)
    return store


async def _open_files(config: FarmConfig, authority: Authority, store: Store) -> ArtifactStore:
    filled = await asyncio.to_thread(store.artifacts.any_count)
    files = ArtifactStore(config.artifact_url, filled, _farm_name(authority, config.store_url))
    if files.trouble:
        log.warning("no task is started", why=files.trouble)
    return files


def _ray_token(home: Path) -> Callable[[], str]:
    """Read the token of the Ray cluster from its file, and return a function that reads it again.

    If the file is damaged later, the function returns the last token that could be read. So no node loses Ray.

    Raises:
        DamagedFile: the file is damaged now.
    """
    token = ray_token_file(home).read_text().strip()

    def of_now() -> str:
        nonlocal token
        with contextlib.suppress(OSError, DamagedFile):
            token = ray_token_file(home).read_text().strip()
        return token

    return of_now


async def _listen(
    listen: str, authority: Authority, where: Whereabouts, unless_up: contextlib.AsyncExitStack
) -> tuple[aio.Server, int]:
    """Open the farm's port. Return the server, which doesn't answer yet, and the port's number.

    Raises:
        CannotListen: the port can't be opened.
    """
    server = aio.server(interceptors=[Gate(authority)], options=list(SERVER_OPTIONS))
    unless_up.push_async_callback(server.stop, None)
    try:
        return server, server.add_secure_port(listen, where.credentials())
    except RuntimeError:
        why = await asyncio.to_thread(ports.problem, listen, "--listen")
        raise CannotListen(
            f"server.listen: {why or f'{listen} was in use and is free now; start farmd again'}"
        ) from None


def _parts(
    config: FarmConfig,
    store: Store,
    files: ArtifactStore,
    authority: Authority,
    backend: RayBackend,
    reader: MediaReader,
    terms: NodeTerms,
) -> tuple[Parts, Dispatcher]:
    """Put together the parts that the services use, and the dispatch loop, which isn't running yet."""
    offers = catalogue(planning_plugins())
    for pin in unknown_pins(config.models, offers.models):
        log.warning(pin)
    sessions, watchers = Sessions(), JobWatchers()
    dispatcher = Dispatcher(store, files, backend, sessions, watchers, config.leases, offers.models)
    intake = Intake(config, offers, store, files, reader.probe, sessions.model_troubles)
    fits = Fits(store, sessions.has_renderer, sessions.trouble_of, sessions.model_troubles)
    parts = Parts(
        store,
        files,
        authority,
        sessions,
        watchers,
        dispatcher.wake,
        fits,
        terms,
        config.limits.max_upload_bytes,
        intake,
    )
    return parts, dispatcher


async def _start_serving(server: aio.Server, parts: Parts) -> health.aio.HealthServicer:
    """Start to answer calls. Return the service that says whether the farm is up."""
    add_services(server, parts)
    health_service = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    reflection.enable_server_reflection((*NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    await server.start()
    for name in ("", *NAMES):
        await health_service.set(name, health_pb2.HealthCheckResponse.SERVING)
    return health_service


def _farm_name(authority: Authority, store_url: str) -> str:
    """Return a name of this farm's record, for farms that share a folder of artifacts. No other home and database has it."""
    known_as = parse(store_url).render_as_string(hide_password=True)
    return hashlib.sha256(authority.ca_pem + known_as.encode()).hexdigest()[:16]


@click.command()
@click.option(
    "--config", "path", type=click.Path(path_type=Path, dir_okay=False), help="The farm.toml to read."
)
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="Folder of the farm's state.")
@click.option("--listen", help="Address and port of the gRPC server, such as 127.0.0.1:7433.")
@click.option(
    "--stop", is_flag=True, help="End the Ray processes that a stopped farmd left running, then exit."
)
@click.version_option(__version__)
def main(path: Path | None, home: Path | None, listen: str | None, stop: bool) -> None:
    """Run the farm's daemon. It contains the API, the job store and the scheduler.

    `farmctl config example` prints every setting with its default.

    farmd ends on SIGTERM or Ctrl-C. Ray and the renderers keep running, so farmd can be restarted in the middle of a
    job. `farmctl down` also ends Ray and the renderers.
    """
    try:
        config = load_config(path, os.environ, {"home": home, "server.listen": listen})
    except InvalidConfig as error:
        raise click.UsageError(str(error)) from None
    configure_logs(config.log.level, config.log.format, "farmd")
    # For the processes that this one starts.
    os.environ |= {"FARM_HOME": str(config.home), **variables(config.log.level, config.log.format)}
    try:
        in_use = f"another farmd runs on {config.home}; `farmctl down` ends it"
        with sole_process(config.home, "farmd.lock", in_use):
            # The folder it was called in may be unmounted or deleted while it runs.
            os.chdir(config.home)
            if stop:
                ray_backend(config).stop()
            else:
                asyncio.run(serve(config))
    except DatabaseAway as error:
        sys.exit(f"farmd: database: can't be used now ({hidden(error.why)}); start farmd again once it can")
    except _REFUSALS as error:
        sys.exit(f"farmd: {hidden(error)}")
    except Exception as error:
        if isinstance(error, OSError) and is_of_files(error):
            sys.exit(f"farmd: {hidden(of_system(error))}")
        # The last line tells what failed, as for all that is foreseen.
        log.exception("farmd failed")
        sys.exit(
            f"farmd: failed with {shown(hidden(f'{type(error).__name__}: {error}'))}; the lines above tell where"
        )


if __name__ == "__main__":
    main()
