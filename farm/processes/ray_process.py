"""Ray's own processes as the farm runs them: the head beside the daemon, a raylet beside each agent.

Nothing here imports Ray: losing its control store ends the process that did, and neither daemon nor agent may end so.
"""

from __future__ import annotations

import abc
import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import socket
import stat
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import structlog

from farm import __version__, damaged_files
from farm.durable import start_over, write_whole
from farm.processes.children import child_environment, python_command
from farm.processes.detached import DetachedProcess, remove
from farm.wire import ports
from farm.wire.ports import PortTaken

log = structlog.get_logger()

_OBJECT_STORE_BYTES = 80_000_000
_KEPT_PORT = "ray-head.port"
_PORT_SECONDS = 2.0

# A cut link is noticed in about 20 s instead of 64: later than a task is given away after silence, so that a renderer
# that parks through a shorter cut is still there afterwards. Head and nodes must agree.
_HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "7",
    "RAY_grpc_client_keepalive_time_ms": "5000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
    "RAY_raylet_liveness_self_check_interval_ms": "5000",
}


_VERSION = "LTX_FARM_VERSION"

_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
    "RAY_USAGE_STATS_ENABLED": "0",
    # There is no runtime environment agent; `uv run` must not make a driver ask for one.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Makes a raylet hold the pipe by which farm.processes.ray_launch's stand-ins for its agents notice its end.
    "RAY_enable_pipe_based_agent_to_parent_health_check": "1",
    "RAY_enable_metrics_collection": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    # The farm drains by itself; Ray would wait 30 s for actors that never end.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
}


def ray_version() -> str:
    """Version of the Ray installed here; every process of a cluster must have the same."""
    return importlib.metadata.version("ray")


def ray_variables(node_ip: str, token_file: Path) -> dict[str, str]:
    """What the farm tells every process that talks Ray.

    node_ip is the address of this machine in the cluster; 127.0.0.1 keeps every port of Ray's on loopback.
    """
    read = {}
    # Where it can't be read, what runs goes on with the one that it has.
    with contextlib.suppress(OSError):
        read["LTX_FARM_RAY_TOKEN"] = hashlib.sha256(token_file.read_bytes().strip()).hexdigest()[:12]
    ours = {
        # What an earlier version has started, or runs another Ray, is made anew like all that differs.
        _VERSION: f"{__version__} with Ray {ray_version()}",
        "RAY_AUTH_TOKEN_PATH": str(token_file.absolute()),
        # Off, Ray leaves 127.0.0.1 alone; on, it replaces it by an outside address.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0" if node_ip == "127.0.0.1" else "1",
    }
    # Ray reads the token once: with another one, what runs is made anew.
    return _HEALTH | _SETTINGS | ours | read


def ray_environment(node_ip: str, token_file: Path) -> dict[str, str]:
    """Environment of every process that talks Ray: our own, minus whatever else was said of Ray, plus the farm's."""
    return without_ray(child_environment()) | ray_variables(node_ip, token_file)


def without_ray(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without what was said of Ray."""
    return {name: value for name, value in environment.items() if not name.startswith("RAY_")}


class _RayNode(DetachedProcess):
    """A Ray node under farm.processes.ray_launch. `node_ip` may change: a machine moves to another network."""

    def __init__(self, kind: str, name: str, home: Path, node_ip: str, token_file: Path) -> None:
        super().__init__(name, home)
        self._kind = kind
        self.node_ip = node_ip
        self.token_file = token_file
        self._state_file = home / f"{name}.json"
        # Sockets live in it, and their paths may have 107 characters: home would be too long.
        digest = hashlib.sha256(f"{home.absolute()}/{name}".encode()).hexdigest()[:12]
        self.temp = Path("/tmp") / f"farm-ray-{os.getuid()}-{digest}"

    @property
    @abc.abstractmethod
    def address(self) -> str:
        """The cluster's control store, as host:port."""

    def _next_address(self) -> str:
        """The address that a start uses; asked while nobody else can start it."""
        return self.address

    def command(self) -> list[str]:
        return python_command(
            "farm.processes.ray_launch",
            self._kind,
            f"--address={self._next_address()}",
            f"--node-ip={self.node_ip}",
            f"--temp={self.temp}",
            f"--state={self._state_file.absolute()}",
            f"--object-store={_OBJECT_STORE_BYTES}",
        )

    def variables(self) -> dict[str, str]:
        return ray_variables(self.node_ip, self.token_file)

    def environment(self) -> dict[str, str]:
        return without_ray(super().environment()) | self.variables()

    def prepare(self) -> None:
        if not self.token_file.is_file():
            raise FileNotFoundError(f"Ray token: {self.token_file} is not a file")
        remove(self._state_file)
        self._remove_temp()
        self.temp.mkdir(mode=0o700)

    def clean_up(self) -> None:
        remove(self._state_file)
        self._remove_temp()

    def outdated(self) -> list[str]:
        found = super().outdated()
        # What else differs follows from the version, and says less.
        found = [one for one in found if one.startswith(_VERSION)] or found
        # Its state is written when it is up. What starts later finds it by a socket in its folder, and by nothing else.
        if self._state_file.exists() and not any(self.temp.glob("session_*/sockets/raylet")) and self.alive():
            found.append(f"its folder {self.temp} was emptied, without which it starts nothing")
        return found

    def node_id(self, timeout: float = 0.0) -> str:
        """Ray's id of the node, known once the control store has registered it.

        Raises TimeoutError when it isn't registered within timeout seconds, RuntimeError when it ended instead, and
        DamagedFile when the file that says it is damaged: only a new start helps then.
        """
        deadline = time.monotonic() + timeout
        remedy = (
            f"Without it nobody can speak of the {self.name} that runs; end that one, and another is started"
        )
        while True:
            try:
                found = damaged_files.read_object(self._state_file, remedy).get("node_id")
                if isinstance(found, str) and found:
                    return found
                raise damaged_files.DamagedFile(self._state_file, "is damaged (it names no node_id)", remedy)
            except FileNotFoundError:
                pass
            if not self.alive():
                raise RuntimeError(f"{self.name} ended while starting, see {self.log_file}")
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{self.name} is not up after {timeout:g} s, see {self.log_file}")
            time.sleep(0.05)

    def running_with(self, option: str) -> str:
        """What follows `option` in the command line of the one that runs; "" where none does."""
        for process in self.family()[:1]:
            with contextlib.suppress(psutil.Error):
                for argument in process.cmdline():
                    if argument.startswith(option):
                        return argument.removeprefix(option)
        return ""

    def running_ip(self) -> str:
        """The address of this machine at which it runs; "" where it doesn't."""
        return self.running_with("--node-ip=")

    def _remove_temp(self) -> None:
        try:
            found = self.temp.lstat()
        except FileNotFoundError:
            return
        # /tmp is everyone's: another user may have put something there under our name.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(f"{self.temp} is in the way and isn't ours")
        shutil.rmtree(self.temp, ignore_errors=True)


class RayHead(_RayNode):
    """The cluster's head: control store and a raylet that runs nothing, for the driver on this machine.

    port 0 takes a free one at the first start and keeps it in home, so that nodes find a head that came back.
    """

    def __init__(self, home: Path, node_ip: str, port: int, token_file: Path) -> None:
        super().__init__("head", "ray-head", home, node_ip, token_file)
        self._port = port

    @property
    def address(self) -> str:
        # A head that runs is where it is, whatever the kept port or the settings say by now.
        return self.running_with("--address=") or self._next_address()

    def _next_address(self) -> str:
        return f"{self.node_ip}:{self._port or self._kept_port()}"

    def prepare(self) -> None:
        self._have_port()
        super().prepare()

    def _have_port(self) -> None:
        """Sees to it that the port to start at is free; Ray itself would wait for ever beside whoever has it.

        One that it has chosen itself is given up for another, which nodes are told when they are next welcomed. Raises
        PortTaken for one that the settings name.
        """
        until = time.monotonic() + _PORT_SECONDS
        # What is left of a head that was killed ends by itself.
        while (
            taken := ports.taken(self.node_ip, self._port or self._kept_port())
        ) and time.monotonic() < until:
            time.sleep(0.05)
        if taken and self._port:
            raise PortTaken(f"ray.port: {taken}; give another, or 0 for a free one")
        if taken:
            log.warning("the port of Ray's head was taken meanwhile; it gets another", why=taken)
            remove(self.home / _KEPT_PORT)

    def ready(self, timeout: float) -> None:
        """Returns once a driver can connect; raises as node_id does."""
        self.node_id(timeout)

    def _kept_port(self) -> int:
        kept = self.home / _KEPT_PORT
        try:
            word = damaged_files.read_word(kept, "")
            if word.isdecimal() and 1024 <= int(word) <= 65535:
                return int(word)
            damage = "it is not a port"
        except FileNotFoundError:
            damage = ""
        except damaged_files.DamagedFile as error:
            damage = error.problem
        if damage:
            # Nobody is at that port: no head runs. Nodes are told the new one when they are next welcomed.
            aside = start_over(kept)
            log.warning(
                "the port of Ray's head is forgotten; another one is taken", why=damage, kept_as=str(aside)
            )
        with socket.socket() as probe:
            probe.bind((self.node_ip, 0))
            port = probe.getsockname()[1]
        write_whole(kept, str(port), replace=False)  # the first of several wins
        return int(kept.read_text())


class Raylet(_RayNode):
    """A machine's raylet. May be started before the head is up: it waits for it for a minute.

    threads is what a renderer's tensor work may use; renderers is how many worker processes are kept ready for them;
    env is added to what renderers inherit.
    """

    def __init__(
        self,
        home: Path,
        head_address: str,
        node_ip: str,
        token_file: Path,
        threads: int,
        renderers: int = 1,
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__("node", "raylet", home, node_ip, token_file)
        self._head_address = head_address
        self._threads = threads
        self._renderers = renderers
        self._env = dict(env or {})

    @property
    def address(self) -> str:
        return self._head_address

    def command(self) -> list[str]:
        return [*super().command(), f"--prestart={self._renderers}"]

    def variables(self) -> dict[str, str]:
        # Spinning threads of several renderers on the same cores cost a factor of 18.
        threads = {"OMP_NUM_THREADS": str(self._threads), "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
        return super().variables() | threads | self._env
