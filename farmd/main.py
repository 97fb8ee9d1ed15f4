"""The program farmd: starts the parts of the daemon, serves until a signal arrives, and stops the parts in order."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import structlog
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from farm import __version__
from farm.artifacts import ArtifactStore, UnusableUrl, holds_artifacts
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
from farmd.services import NAMES, Parts, add_services
from farmd.whereabouts import Whereabouts
from scheduler.dispatch.job_watchers import JobWatchers
from scheduler.dispatch.sessions import Sessions

if TYPE_CHECKING:
    from scheduler.dispatch.ray.backend import RayBackend

log = structlog.get_logger()

_LEADING_SECONDS = 1.0


class CannotListen(Exception):
    """The daemon can't listen on its port."""


_REFUSALS = (
    CannotListen, DamagedFile, HomeInUse, InvalidConfig, NoAddress, PluginTrouble, PortTaken, StoreError, UnusableUrl,
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
        await _serve(config, stopping, unless_up)


async def _serve(config: FarmConfig, stopping: asyncio.Event, unless_up: contextlib.AsyncExitStack) -> None:
    from farmd.fits import Fits
    from farmd.intake import Intake, unknown_pins
    from scheduler.dispatch.loop import Dispatcher

    started = time.time()
    listen, advertise = config.server.listen, config.server.advertise
    if (stated := config.ray.node_ip) and not addresses.is_here(stated):
        log.warning(
            "ray.node_ip is no address of this machine, so workstations can't reach Ray", node_ip=stated
        )
    authority = Authority.open(config.home)
    where = Whereabouts(authority, listen, advertise)

    def lived() -> str:
        return config.artifact_url if holds_artifacts(config.artifact_url) else ""

    store = await asyncio.to_thread(
        Store.lead, config.store_url, this_process("farmd"), terms=config.terms, lived=lived
    )
    unless_up.callback(store.close)
    filled = await asyncio.to_thread(store.artifacts.any_count)
    files = ArtifactStore(config.artifact_url, filled, _farm_name(authority, config.store_url))
    if files.trouble:
        log.warning("no task is started", why=files.trouble)
    ray_token = ray_token_file(config.home).read_text().strip()
    backend = ray_backend(config)

    server = aio.server(interceptors=[Gate(authority)], options=list(SERVER_OPTIONS))
    unless_up.push_async_callback(server.stop, None)
    try:
        bound = server.add_secure_port(listen, where.credentials())
    except RuntimeError:
        why = await asyncio.to_thread(ports.problem, listen, "--listen")
        raise CannotListen(
            f"server.listen: {why or f'{listen} was in use and is free now; start farmd again'}"
        ) from None
    unless_up.push_async_callback(backend.end_begun)
    await backend.start()

    offers = catalogue(planning_plugins())
    for pin in unknown_pins(config.models, offers.models):
        log.warning(pin)
    sessions, watchers = Sessions(), JobWatchers()
    dispatcher = Dispatcher(store, files, backend, sessions, watchers, config.leases, offers.models)
    reader = MediaReader(config.home)
    intake = Intake(config, offers, store, files, reader.probe, sessions.model_troubles)
    fits = Fits(store, sessions.has_renderer, sessions.trouble_of, sessions.model_troubles)

    def token_of_now() -> str:
        nonlocal ray_token
        # A file that is damaged while the farm runs takes nobody's Ray away.
        with contextlib.suppress(OSError, DamagedFile):
            ray_token = ray_token_file(config.home).read_text().strip()
        return ray_token

    terms = NodeTerms(
        ray_address=lambda: backend.address,
        ray_token=token_of_now,
        heartbeat=config.leases.heartbeat,
        lease=config.leases.lease,
        servers=lambda: where.servers(bound, backend.node_ip),
    )
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
    add_services(server, parts)
    health_service = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    reflection.enable_server_reflection((*NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    await server.start()
    for name in ("", *NAMES):
        await health_service.set(name, health_pb2.HealthCheckResponse.SERVING)
    await asyncio.to_thread(where.write, bound, backend.node_ip)
    unless_up.pop_all()
    log.info(
        "farmd is up",
        version=__version__,
        listen=addresses.joined(addresses.split(listen)[0], bound),
        ray=backend.address,
        home=str(config.home),
    )

    told = asyncio.create_task(stopping.wait())
    # None of these ends by itself; a daemon without one of them would only look alive.
    work = [
        asyncio.create_task(keep_leading(store)),
        asyncio.create_task(dispatcher.run()),
        asyncio.create_task(where.keep(bound, lambda: backend.node_ip)),
        # In its home the store is this farm's alone: nobody else can have left anything there.
        asyncio.create_task(
            collect_forever(store, files, config.keeping, None if config.artifacts.url else started)
        ),
    ]
    ended, _ = await asyncio.wait({told, *work}, return_when=asyncio.FIRST_COMPLETED)
    log.info("farmd is stopping; renderers go on")
    await health_service.enter_graceful_shutdown()
    for task in (told, *work):
        task.cancel()
    sessions.close_all()
    await server.stop(grace=2.0)
    await backend.close()
    reader.close()
    store.close()
    for task in ended:
        task.result()


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
