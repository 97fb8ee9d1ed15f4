"""The program farm-node, which is the agent of one workstation.

On SIGTERM, the agent drains the node: it waits for its attempts to end, and at a deadline hands the rest back to the
farm. It then ends the renderers and the raylet, and tells the daemon. SIGINT and a second SIGTERM do the same without
waiting for attempts. After kill -9, renderers and raylet go on, and the next agent with the same home takes them over.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import platform
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import click
import grpc
import structlog

from farm import PROTOCOL, __version__, durable
from farm.backoff import Backoff
from farm.clock import boottime
from farm.config import InvalidConfig, NodeConfig, load_node_config
from farm.damaged_files import DamagedFile, of_system, read_text
from farm.logs import configure_logs, variables
from farm.outside_text import hidden
from farm.processes.sole import HomeInUse, sole_process
from farm.v1 import nodes_pb2, renderers_pb2
from farm.wire import addresses
from farm.wire.security import InvalidJoinToken
from farm.wire.sockets import remove_socket, socket_path
from nodeagent import devices, identity, probe
from nodeagent.journal_rescue import JournalAway, JournalTooNew, open_journal
from nodeagent.log_delivery import LogDelivery
from nodeagent.membership import Ending, Membership
from nodeagent.model_search import ModelSearch
from nodeagent.owner.watch import OwnerWatch, sensor
from nodeagent.probe import ProbedDevice
from nodeagent.raylet import RayletKeeper
from nodeagent.renderer_link import RendererLink
from nodeagent.stream import REFUSALS, AgentRefused, FarmStream
from renderer import ALLOCATION, HOME_VARIABLE, SOCKET_VARIABLE
from renderer.attempt_log import log_folder
from renderer.work_folder import clear

log = structlog.get_logger()


_OFFERS_SECONDS = 1.0
"""How long the first hello waits for the hashes of weights; fuller ones follow as each becomes known."""
_GOODBYE_SECONDS = 5.0
_STOP_SECONDS = 5.0
"""What is told to stop has so long to come to its next step; then its renderer is ended with the others."""
_VACATE_SECONDS = 600.0
"""What is told to stop because its renderer must be another has so long to come to its next step and to bring what it has."""
_GOES = "its node's agent was told to end"


class Agent:
    """The agent of one workstation. All its methods must be called in one event loop.

    The class implements two interfaces. RendererEvents has the methods that the agent's RendererLink calls. FarmEvents
    has the methods that the agent's FarmStream calls.
    """

    def __init__(self, config: NodeConfig, who: identity.NodeIdentity, lent: list[ProbedDevice]):
        self._config = config
        self._who = who
        self._lent = lent
        self._boot_id = probe.boot_id()
        self._search = ModelSearch(
            config, lambda: self._stream.introduce_again(), lambda: self._stream.beat()
        )
        self._journal = open_journal(config.home / "journal.db")
        self._socket = socket_path(config.home, "renderer.sock")
        setups = {device.advertised.name: self._setup_for(device) for device in lent}
        self._link = RendererLink(self._journal, setups, self)
        self._logs = LogDelivery(log_folder(config.home), who, self._link.held)
        self._owner = OwnerWatch(
            config.owner, sensor(config.owner), config.home, self._link, lambda: self._stream.beat()
        )
        self._stream = FarmStream(who, self._journal, self._link, self._logs, self)
        self._raylet = RayletKeeper(
            config.home / "ray",
            config.raylet.node_ip,
            who.ray_token_file,
            max(device.advertised.threads for device in lent),
            len(lent),
            {
                SOCKET_VARIABLE: str(self._socket),
                HOME_VARIABLE: str(config.home),
                # What a renderer has looked at once; a raylet is made anew with it when a card is changed for another.
                "LTX_FARM_DEVICES": ", ".join(map(_described, lent)),
                **ALLOCATION,
            },
            self._stream.beat,
            self._vacated,
        )
        self._membership = Membership(self._raylet, self._link, self._stream.beat)
        self._leaving = False

    async def run(self, ending: Ending) -> None:
        """Serve until a signal sets `ending`, then end the renderers and the raylet. Raises AgentRefused."""
        # Before any renderer is heard, which may begin then.
        held = [(nodes_pb2.AttemptRef(attempt_id=one.attempt_id, epoch=one.epoch), one.device)
                for one in self._journal.held()]  # fmt: skip
        if count := await asyncio.to_thread(clear, self._config.home, held):
            log.info("removed what renderers had left", entries=count)
        await self._link.serve(self._socket)
        # The first word to the farm says whose the machine is.
        await self._owner.look()
        offers = asyncio.create_task(self._search.run())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OFFERS_SECONDS):
                await self._search.looked.wait()
        if not self._search.looked.is_set():
            log.info("hashing weights; models follow as they become known")
        connection = asyncio.create_task(self._stream.run())
        delivery = asyncio.create_task(self._logs.run())
        watch = asyncio.create_task(self._owner.run())
        stopped = asyncio.create_task(ending.asked.wait())
        try:
            await asyncio.wait([connection, stopped], return_when=asyncio.FIRST_COMPLETED)
            if ending.asked.is_set():
                await self._hand_back(ending.at_once)
            await self._membership.end(_GOES)
            if not connection.done():
                await self._say_goodbye()
        finally:
            tasks = (connection, offers, delivery, watch, stopped)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await self._link.close()
            remove_socket(self._socket)
            self._journal.close()
        if isinstance(results[0], Exception):
            raise results[0]

    def began(self) -> None:
        """Send a heartbeat at once, so that the daemon grants the lease of a new attempt."""
        self._stream.beat()

    def loads(self) -> None:
        """Tell the daemon which models are being loaded."""
        self._stream.beat()

    def progressed(self, progress: nodes_pb2.Progress) -> None:
        """Send a renderer's progress to the daemon."""
        self._stream.send(nodes_pb2.ConnectRequest(progress=progress))

    def ended(self, completion: nodes_pb2.Completion) -> None:
        """Tell the daemon how an attempt ended. The journal has already recorded the end."""
        self._stream.send(nodes_pb2.ConnectRequest(completion=completion))
        self._logs.wake()

    def reported(self, report: nodes_pb2.RendererReport) -> None:
        """Tell the daemon that a renderer has attached or has ended."""
        self._stream.send(nodes_pb2.ConnectRequest(renderer=report))

    def hello(self) -> nodes_pb2.Hello:
        """Return a message that describes this node: its devices, its models, and the versions of its software."""
        return nodes_pb2.Hello(
            node_id=self._who.node_id,
            name=_name(self._config),
            version=__version__,
            protocol=PROTOCOL,
            boot_id=self._boot_id,
            devices=[device.advertised for device in self._lent],
            models=[
                nodes_pb2.ModelOffer(model=m, weights=w) for m, (_, w) in sorted(self._search.models.items())
            ],
            ray_node_id=self._raylet.node_id,
            ray_version=importlib.metadata.version("ray"),
            python_version=platform.python_version(),
            leaving=self._leaving,
            owner_reason=self._owner.reason,
        )

    def heartbeat(self) -> nodes_pb2.Heartbeat:
        """Return a heartbeat with the present state of this node."""
        return nodes_pb2.Heartbeat(
            ray_node_id=self._raylet.node_id,
            leaving=self._leaving,
            left=self._membership.left,
            ray_trouble=self._raylet.trouble,
            model_troubles=self._search.troubles,
            owner_reason=self._owner.reason,
            loading=self._link.loading(),
        )

    def welcomed(self, welcome: nodes_pb2.Welcome) -> None:
        """Join the Ray cluster that `welcome` names. The daemon sends `welcome` in answer to this node's hello."""
        self._who.take_ray_token(welcome.ray_token)
        self._membership.joins(welcome.ray_address, welcome.leave)

    def wanted(self, leave: bool) -> None:
        self._membership.wanted(leave)

    def renew(self, ray_node_id: str, why: str) -> None:
        self._raylet.renew(ray_node_id, why)

    def _setup_for(self, device: ProbedDevice) -> Callable[[], renderers_pb2.Setup]:
        def setup() -> renderers_pb2.Setup:
            sources = {model: source for model, (source, _) in self._search.models.items()}
            return renderers_pb2.Setup(
                threads=device.advertised.threads,
                backend=device.advertised.backend,
                index=device.index,
                vram_bytes=device.advertised.vram_bytes,
                models=dict(self._config.models) | sources,
                server=self._who.server,
                ca_file=str(self._who.ca_file),
                token_file=str(self._who.token_file),
            )

        return setup

    async def _hand_back(self, at_once: asyncio.Event) -> None:
        """Take no more attempts. Those that run may end by themselves until the deadline; then they are stopped."""
        self._leaving = True
        self._stream.beat()
        seconds = self._config.drain_deadline
        log.info("told to end", running=len(self._link.held()), seconds=seconds)
        await self._until_idle(seconds, at_once)
        self._link.stop(_GOES)
        await self._until_idle(_STOP_SECONDS, at_once)

    @contextlib.asynccontextmanager
    async def _vacated(self, why: str) -> AsyncIterator[None]:
        """Hand back what renderers have in hand. The body then ends the renderers, for a reason of this machine."""
        until = boottime() + 2 * _VACATE_SECONDS
        while self._link.held() and boottime() < until:
            # Again and again: what was on its way here comes only now.
            self._link.stop(why, _VACATE_SECONDS)
            await asyncio.sleep(0.2)
        with self._link.ending(why):
            yield

    async def _until_idle(self, seconds: float, at_once: asyncio.Event) -> None:
        until = boottime() + seconds
        while self._link.held() and boottime() < until and not at_once.is_set():
            await asyncio.sleep(0.05)

    async def _say_goodbye(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                while self._journal.pending():
                    await asyncio.sleep(0.05)
                await self._stream.settled()
                await self._logs.deliver()


def _described(device: ProbedDevice) -> str:
    told = device.advertised
    return f"{told.name}: {told.backend} {device.index}, {told.vram_bytes} bytes"


def _name(config: NodeConfig) -> str:
    return config.name or socket.gethostname()


async def _serve(config: NodeConfig) -> None:
    ending = Ending()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.signalled, number)
    joining = asyncio.create_task(_join(config))
    stopped = asyncio.create_task(ending.asked.wait())
    await asyncio.wait([joining, stopped], return_when=asyncio.FIRST_COMPLETED)
    if ending.asked.is_set():
        joining.cancel()
        return
    stopped.cancel()
    if (stated := config.raylet.node_ip) and not addresses.is_here(stated):
        log.warning("raylet.node_ip is no address of this machine, so Ray can't use it", node_ip=stated)
    lent = await asyncio.to_thread(devices.lent, config)
    for device in lent:
        log.info("device", device=device.advertised.name, model=device.advertised.model)
        if not device.advertised.vram_bytes:
            log.warning(
                "the driver tells no memory of this device, so it fits no task; state it in node.toml ([[device]])",
                device=device.advertised.name,
            )
    await Agent(config, joining.result(), lent).run(ending)


async def _join(config: NodeConfig) -> identity.NodeIdentity:
    """Return this node's identity. Without one, register with the join token, and wait until the daemon can be reached."""
    known = identity.load(config.home, config.server, config.join_token)
    if known:
        return known
    told, waits = False, Backoff(0.25, 3.0)
    while True:
        try:
            return await identity.register(config.home, _name(config), config.server, config.join_token)
        except grpc.aio.AioRpcError as error:
            if error.code() in REFUSALS or error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise AgentRefused(error.details()) from None
            if "CERTIFICATE_VERIFY_FAILED" in (error.details() or ""):
                # Waiting would never help: whoever answers there isn't the farm that made the token.
                raise AgentRefused(
                    f"join_token: doesn't match the certificate of the farm at {config.server}; use the command that "
                    "`farmctl node enroll` prints on that farm. If the command is right, check this machine's clock"
                ) from None
            if not told:
                log.warning("can't register yet; retrying", server=config.server, problem=error.details())
                told = True
        await asyncio.sleep(waits.next() * random.uniform(0.5, 1.0))


def _keep_others_out(home: Path) -> None:
    """Let only this user write the folders that inputs are read from, whatever the umask of this or an earlier agent."""
    os.umask(0o077)
    for folder in (home / "cache", home / "work"):
        try:
            durable.private_folder(folder)
        except OSError as error:
            log.warning("a folder can't be made private", folder=str(folder), why=of_system(error))


@click.command(name="farm-node")
@click.option(
    "--server", metavar="HOST:PORT", help="Address of the farm's daemon. Needed only at the first start."
)
@click.option(
    "--join-token",
    envvar="FARM_JOIN_TOKEN",
    metavar="TOKEN",
    help="The token that `farmctl node enroll` prints, or @FILE to read the token from FILE. Needed only at the first "
    "start.",
)
@click.option("--home", type=click.Path(path_type=Path), help="Folder for this node's identity and files.")
@click.option("--name", help="Name under which the farm shows this node.")
@click.option("--config", "path", type=click.Path(path_type=Path), help="The configuration file (node.toml).")
@click.option("--threads", type=int, help="Total number of CPU threads for all renderers of this node.")
@click.option(
    "--drain-deadline",
    type=float,
    metavar="SECONDS",
    help="Seconds that tasks may continue after SIGTERM. Then the node stops them and gives them back to the farm.",
)
@click.version_option(__version__)
def main(
    server: str | None,
    join_token: str | None,
    home: Path | None,
    name: str | None,
    path: Path | None,
    threads: int | None,
    drain_deadline: float | None,
) -> None:
    """Lend this workstation's devices to a render farm."""
    try:
        if join_token and join_token.startswith("@"):
            file = Path(join_token[1:])
            join_token = read_text(file, "Put into it what `farmctl node enroll` prints behind --join-token")
        flags = {"server": server, "join_token": join_token, "home": home, "name": name, "threads": threads,
                 "drain_deadline": drain_deadline}  # fmt: skip
        config = load_node_config(path, os.environ, flags)
        configure_logs(config.log.level, config.log.format, "agent", node=_name(config))
        # For the processes that this one starts: raylet and renderers.
        os.environ |= variables(config.log.level, config.log.format)
        in_use = f"home: another farm-node runs on {config.home}; give --home another folder"
        with sole_process(config.home, "agent.lock", in_use):
            # The folder it was called in may be unmounted or deleted while it runs.
            os.chdir(config.home)
            _keep_others_out(config.home)
            asyncio.run(_serve(config))
    except (
        InvalidConfig, InvalidJoinToken, HomeInUse, AgentRefused, identity.NotJoined, DamagedFile, JournalTooNew,
    ) as error:  # fmt: skip
        click.echo(f"farm-node: {hidden(error)}", err=True)
        sys.exit(2)
    except (JournalAway, OSError) as error:
        # 1, after which a service manager starts it again: a full disk has room some time.
        told = of_system(error) if isinstance(error, OSError) else str(error)
        click.echo(f"farm-node: {hidden(told)}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
