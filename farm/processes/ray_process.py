"""Runs Ray's processes for the farm: the head beside the daemon, and a raylet beside each agent.

This module doesn't import Ray: a process that imports Ray ends when it loses the connection to Ray's control store. The
daemon and the agents must survive that.
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

# With these Ray notices a cut link in about 20 s instead of 64. That is later than the farm gives a silent node's tasks to
# others, so that a renderer that parks through a shorter cut is still there afterwards. Head and nodes must agree.
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
    """Return the version of Ray in this installation. All processes of a Ray cluster must have the same version."""
    return importlib.metadata.version("ray")


def ray_variables(node_ip: str, token_file: Path) -> dict[str, str]:
    """Return the environment variables that the farm sets for every process that talks to Ray.

    Args:
        node_ip: The address of this machine in the cluster. With 127.0.0.1, Ray opens all its ports on loopback only.
        token_file: The file with Ray's token.
    """
    read = {}
    # If the token can't be read, a running process goes on with the token that it has.
    with contextlib.suppress(OSError):
        read["LTX_FARM_RAY_TOKEN"] = hashlib.sha256(token_file.read_bytes().strip()).hexdigest()[:12]
    ours = {
        # A process that an earlier version started, or that runs another Ray, is restarted, as for any difference.
        _VERSION: f"{__version__} with Ray {ray_version()}",
        "RAY_AUTH_TOKEN_PATH": str(token_file.absolute()),
        # Off, Ray leaves 127.0.0.1 alone; on, it replaces it by an outside address.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0" if node_ip == "127.0.0.1" else "1",
    }
    # Ray reads the token once: with another token a running process must be restarted.
    return _HEALTH | _SETTINGS | ours | read


def ray_environment(node_ip: str, token_file: Path) -> dict[str, str]:
    """Return the environment for a process that talks to Ray.

    It has the variables of `child_environment`, except that all RAY_* variables come from `ray_variables`.

    Args:
        node_ip: The address of this machine in the cluster.
        token_file: The file with Ray's token.
    """
    return without_ray(child_environment()) | ray_variables(node_ip, token_file)


def without_ray(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` without the variables that Ray reads."""
    return {name: value for name, value in environment.items() if not name.startswith("RAY_")}


class _RayNode(DetachedProcess):
    """A Ray node, run by farm.processes.ray_launch. `node_ip` may be changed when the machine moves to another network."""

    def __init__(self, kind: str, name: str, home: Path, node_ip: str, token_file: Path) -> None:
        super().__init__(name, home)
        self._kind = kind
        self.node_ip = node_ip
        self.token_file = token_file
        self._state_file = home / f"{name}.json"
        # Ray's sockets lie in it, and their paths may have at most 107 characters: below the home they could be too long.
        digest = hashlib.sha256(f"{home.absolute()}/{name}".encode()).hexdigest()[:12]
        self.temp = Path("/tmp") / f"farm-ray-{os.getuid()}-{digest}"

    @property
    @abc.abstractmethod
    def address(self) -> str:
        """The address of the cluster's control store, as host:port."""

    def _next_address(self) -> str:
        """Return the address for the next start. Called while no other caller can start the process."""
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
            raise FileNotFoundError(
                f"Ray's token must be in the file {self.token_file}, but there is no such file"
            )
        remove(self._state_file)
        self._remove_temp()
        self.temp.mkdir(mode=0o700)

    def clean_up(self) -> None:
        remove(self._state_file)
        self._remove_temp()

    def outdated(self) -> list[str]:
        found = super().outdated()
        # A difference in version explains all other differences, so only that one is named.
        found = [one for one in found if one.startswith(_VERSION)] or found
        # The state file is written when the node is up. Later processes find the node only by a socket in its folder.
        if self._state_file.exists() and not any(self.temp.glob("session_*/sockets/raylet")) and self.alive():
            found.append(f"its folder {self.temp} was emptied, and it can start no processes without it")
        return found

    def node_id(self, timeout: float = 0.0) -> str:
        """Return Ray's id of the node, once the control store has registered the node.

        Raises TimeoutError if the node isn't registered within `timeout` seconds, RuntimeError if the node has ended,
        and DamagedFile if its state file is damaged. A node with a damaged state file must be started anew.
        """
        deadline = time.monotonic() + timeout
        remedy = (
            f"Without it the running {self.name} can't be used; end that process, and a new one is started"
        )
        while True:
            try:
                found = damaged_files.read_object(self._state_file, remedy).get("node_id")
                if isinstance(found, str) and found:
                    return found
                raise damaged_files.DamagedFile(
                    self._state_file, "is damaged (the file has no key 'node_id')", remedy
                )
            except FileNotFoundError:
                pass
            if not self.alive():
                raise RuntimeError(f"{self.name} ended before it was up; see {self.log_file}")
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{self.name} is not up after {timeout:g} s; see {self.log_file}")
            time.sleep(0.05)

    def running_with(self, option: str) -> str:
        """Return the text after `option` in the command line of the node's process; "" if it doesn't run."""
        for process in self.family()[:1]:
            with contextlib.suppress(psutil.Error):
                for argument in process.cmdline():
                    if argument.startswith(option):
                        return argument.removeprefix(option)
        return ""

    def running_ip(self) -> str:
        """Return the address of this machine at which the node runs; "" if it doesn't run."""
        return self.running_with("--node-ip=")

    def _remove_temp(self) -> None:
        try:
            found = self.temp.lstat()
        except FileNotFoundError:
            return
        # Everybody can write to /tmp: another user may have put something there under this name.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(
                f"{self.temp} belongs to another user or is not a folder; remove it, "
                "so that the farm can make a folder for Ray there"
            )
        shutil.rmtree(self.temp, ignore_errors=True)


class RayHead(_RayNode):
    """The head of the Ray cluster: the control store, and a raylet that runs no work.

    The driver on this machine connects through that raylet.

    If the port is 0, the first start takes a free port and stores its number in the home folder. Later starts take the
    same port, so that nodes find a restarted head.
    """

    def __init__(self, home: Path, node_ip: str, port: int, token_file: Path) -> None:
        super().__init__("head", "ray-head", home, node_ip, token_file)
        self._port = port

    @property
    def address(self) -> str:
        # A running head keeps its address, even if the stored port or the settings have changed.
        return self.running_with("--address=") or self._next_address()

    def _next_address(self) -> str:
        return f"{self.node_ip}:{self._port or self._kept_port()}"

    def prepare(self) -> None:
        self._have_port()
        super().prepare()

    def _have_port(self) -> None:
        """Make sure that the head's port is free; Ray itself would wait for ever for a taken port.

        A port that the head has chosen itself is replaced by another. Nodes learn the new port with their next Welcome.
        Raises PortTaken for a port that the settings name.
        """
        until = time.monotonic() + _PORT_SECONDS
        # The rest of a killed head ends by itself.
        while (
            taken := ports.taken(self.node_ip, self._port or self._kept_port())
        ) and time.monotonic() < until:
            time.sleep(0.05)
        if taken and self._port:
            raise PortTaken(f"ray.port: {taken}; give another port, or 0 for any free port")
        if taken:
            log.warning("the port of Ray's head was taken meanwhile; it gets another", why=taken)
            remove(self.home / _KEPT_PORT)

    def ready(self, timeout: float) -> None:
        """Wait at most `timeout` seconds until a driver can connect. Raises the same exceptions as `node_id`."""
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
            # No head runs, so the port is unused. Nodes learn the new port with their next Welcome.
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
    """The raylet of a machine. If it starts before the head, it waits up to one minute for the head.

    Args:
        home: The folder for the raylet's files.
        head_address: The address of the cluster's control store, as host:port.
        node_ip: The address of this machine in the cluster.
        token_file: The file with Ray's token.
        threads: The number of CPU threads for the tensor work of each renderer.
        renderers: The number of worker processes to keep ready.
        env: Further environment variables, which renderers inherit.
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
        # With spinning threads, several renderers on the same cores were slower by a factor of 18.
        threads = {"OMP_NUM_THREADS": str(self._threads), "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
        return super().variables() | threads | self._env
