"""A whole farm on one machine: start its processes, find them again, and stop them all.

All processes of the farm have the environment variables FARM_HOME and FARM_UP, which hold the path of the farm's home.
`farmctl down` checks that no process with FARM_UP is left. It doesn't look for FARM_HOME, because people set that
variable for other programs too.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from farm.client import FarmClient
from farm.client.errors import FarmError, Unreachable
from farm.config import FarmConfig, environment_for_children, load_config
from farm.processes.children import child_environment, python_command
from farm.processes.detached import DetachedProcess, remove, running_in
from farm.setting_paths import absolute
from farm.v1 import nodes_pb2
from farm.wire.profile import NoProfile
from farm.wire.security import Authority, join_token

MARK = "FARM_UP"

_AGENT_SECONDS = 20.0
_DAEMON_SECONDS = 15.0
_LEFTOVER_SECONDS = 3.0
# Ray's head and the bridge have ten seconds each to end by themselves.
_RAY_SECONDS = 60.0
# Hashing 26 GB of weights for the first time takes minutes; the farm is of use before.
_MODELS_SECONDS = 30.0


class StartFailed(FarmError):
    """A process of the farm ended, or the farm was not ready in time."""


class StillUp(FarmError):
    """The farm could not be stopped. The message says what failed, which processes still run, and what to do."""


class _Program(DetachedProcess):
    """One of the farm's processes. Its pid file and log file are in the home's run folder."""

    def __init__(self, name: str, home: Path, command: list[str], variables: dict[str, str]) -> None:
        (home / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(name, home / "run")
        self._command = command
        self._variables = variables | {"FARM_HOME": str(home), MARK: str(home), "PYTHONUNBUFFERED": "1"}

    def command(self) -> list[str]:
        return python_command(*self._command)

    def environment(self) -> dict[str, str]:
        return super().environment() | environment_for_children(os.environ) | self._variables

    def log_size(self) -> int:
        """Return the size of the program's log in bytes. The log includes earlier runs of the program."""
        with contextlib.suppress(OSError):
            return self.log_file.stat().st_size
        return 0

    def tail(self, begun: int, lines: int = 15) -> str:
        """Return the last lines of the program's log after the first `begun` bytes."""
        with contextlib.suppress(OSError), self.log_file.open("rb") as file:
            file.seek(begun if begun <= self.log_size() else 0)
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        return ""


class LocalFarm:
    """A farm on this machine: a daemon and agents. The folder `home` holds the farm's files."""

    def __init__(self, home: Path, listen: str | None = None) -> None:
        """Make the object. The daemon will listen at `listen`; if `listen` is None, at the address in its settings."""
        self.home = absolute(home)
        self._listen = listen
        self._profile = self.home / "client.json"
        self._logged: dict[str, int] = {}
        self._begun = 0.0

    @property
    def log_folder(self) -> Path:
        """The folder of the processes' logs and pid files."""
        return self.home / "run"

    def running(self) -> bool:
        """Return whether a daemon of this farm runs, no matter who started it.

        Agents without a daemon don't count, because `start` can take them over.
        """
        return self._held() or self.daemon_lives()

    def client(self) -> FarmClient:
        """Return a client of this farm. Raises NoProfile until the daemon has written its profile."""
        return FarmClient.from_profile(self._profile, patience=0.0)

    def config(self) -> FarmConfig:
        """Return the settings that the farm's daemon will read. Raises InvalidConfig."""
        return load_config(None, os.environ, {"home": self.home, "server.listen": self._listen})

    def start(self, nodes: int, threads: int | None = None) -> None:
        """Start the daemon and `nodes` agents without waiting until they are ready. Raises StartFailed.

        `threads` is the number of CPU threads for each agent's devices. If it is None, the agents share this machine's
        cores equally.
        """
        self._begun = time.time()
        # First: damaged keys are reported before anything changes, and the profile shows that there were keys.
        token = join_token(Authority.open(self.home))
        # An old profile would name a daemon that isn't there.
        remove(self._profile)
        for folder in (self.log_folder, self.home / "nodes"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._start(self._daemon())
        server = self._server()
        threads = threads or max(1, len(os.sched_getaffinity(0)) // max(1, nodes))
        for number in range(1, nodes + 1):
            agent = self._agent(number, server, token, threads)
            # An agent that outlived its daemon calls the old address; a daemon without a fixed port has a new one now.
            if any(server not in process.cmdline() for process in agent.family()[:1]):
                agent.stop(_AGENT_SECONDS, signal.SIGINT)
            self._start(agent)

    def wait_until_ready(
        self, nodes: int, timeout: float, tell: Callable[[str], None]
    ) -> list[nodes_pb2.Node]:
        """Wait until the daemon answers, all nodes are online, and each node has reported its models.

        A node may have no models, so after 30 s the call stops waiting for models.

        Args:
            nodes: The number of nodes to wait for.
            timeout: Seconds to wait at most.
            tell: Called again and again with a text that says what is still missing.

        Returns:
            The nodes.

        Raises:
            StartFailed: The nodes aren't ready within `timeout`, or a process of the farm has ended.
        """
        wanted = {_node_name(number) for number in range(1, nodes + 1)}
        begun = time.monotonic()
        while True:
            self._check_alive(0)
            online = None
            with contextlib.suppress(Unreachable, NoProfile), self.client() as client:
                online = [
                    node
                    for node in client.nodes()
                    if node.name in wanted
                    and node.state == nodes_pb2.NODE_STATE_ONLINE
                    # A daemon that has just started shows the nodes as the last daemon left them in the database.
                    and node.last_seen_at >= self._begun
                ]
            if online is not None:
                # Not before: agents end too if another farm answers at the daemon's port, but that isn't the first cause.
                self._check_alive(nodes)
            waited = time.monotonic() - begun
            if online is None:
                missing = "the daemon does not answer yet"
            elif len(online) < nodes:
                missing = f"{len(online)} of {nodes} nodes are online"
            elif not all(node.models for node in online) and waited < _MODELS_SECONDS:
                missing = "the nodes are looking for their models"
            else:
                return online
            tell(missing)
            if waited > timeout:
                raise StartFailed(
                    f"the farm is not ready after {timeout:g} s: {missing}; see the logs in {self.log_folder}"
                )
            time.sleep(0.1)

    def _start(self, program: _Program) -> None:
        # Lines that the program logs from here on belong to this start.
        self._logged[program.name] = program.log_size()
        program.start()

    def daemon_lives(self) -> bool:
        """Return whether the daemon that `start` started is running."""
        return self._daemon().alive()

    def end_of_daemon(self) -> str:
        """Return a text that says how the daemon that `start` started has ended."""
        daemon = self._daemon()
        return _ended(daemon, daemon.tail(self._logged.get(daemon.name, 0)))

    def stop(self, tell: Callable[[str], None]) -> None:
        """Stop the farm: end its agents, its daemon and Ray, in that order, then all other processes of the farm.

        Args:
            tell: Called with a text for each step.

        Raises:
            StillUp: Ray can't be ended, or a process of the farm still runs.
        """
        if not self.home.is_dir():
            return
        agents = [program for program in self._known() if program.name != "farmd"]
        if agents:
            tell(f"stopping {len(agents)} node{'s' if len(agents) > 1 else ''}")
            with concurrent.futures.ThreadPoolExecutor(len(agents)) as pool:
                # After SIGTERM they would wait for what runs.
                list(pool.map(lambda program: program.stop(_AGENT_SECONDS, signal.SIGINT), agents))
        daemon = self._daemon()
        if daemon.alive():
            tell("stopping the daemon")
            self._end_alone(daemon)
        if self._held():
            raise StillUp(
                f"{self.home} is used by a farmd that `farmctl up` did not start; stop this farmd (a service, or a "
                "program in a terminal), then run `farmctl down` again to stop Ray"
            )
        failure = ""
        if (self.home / "ray").is_dir():
            tell("stopping Ray")
            failure = self._stop_ray()
        daemon.stop()
        for process in self._end_leftovers():
            tell(f"ended what was left: {process}")
        left = self._left()
        if failure or left:
            runs = f"still running: {', '.join(left)}" if left else "none of its processes is left"
            raise StillUp(
                f"the farm at {self.home} did not stop cleanly: {failure or 'some processes did not end'}; {runs}. "
                "Correct the problem, then run `farmctl down` again"
            )

    def _stop_ray(self) -> str:
        """End Ray's head and the bridge (the process that talks to Ray for the daemon).

        Return what failed, in words; "" if nothing failed.
        """
        try:
            done = subprocess.run(
                python_command("farmd.main", "--home", str(self.home), "--stop"),
                check=False,
                env=child_environment()
                | environment_for_children(os.environ)
                | {"FARM_HOME": str(self.home)},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_RAY_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"`farmd --stop` did not end Ray within {_RAY_SECONDS:g} s"
        if not done.returncode:
            return ""
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return f"`farmd --stop` failed (exit code {done.returncode}): {said[0]}"

    def _left(self) -> list[str]:
        """Return each process of this farm that still runs, as its name or command line with its pid."""
        named = running_in(self.log_folder) | running_in(self.home / "ray")
        found = [f"{name} (pid {pid})" if pid else name for name, pid in named.items()]
        marked = (process for process in self._marked() if process.pid not in named.values())
        return found + [
            f"{_command_line(process)} (pid {process.pid})" for process in marked if _runs(process)
        ]

    def _daemon(self) -> _Program:
        listen = ["--listen", self._listen] if self._listen else []
        return _Program("farmd", self.home, ["farmd.main", "--home", str(self.home), *listen], {})

    def _agent(self, number: int, server: str = "", token: str = "", threads: int = 1) -> _Program:
        command = ["nodeagent.agent", "--home", str(self.home / "nodes" / str(number))]
        command += ["--server", server, "--name", _node_name(number), "--threads", str(threads)]
        # In the environment, where only its own user can read it; a command line is everybody's.
        variables = {"FARM_NODE_JOIN_TOKEN": token}
        if os.path.lexists(self.home / "node.toml"):
            variables["FARM_NODE_CONFIG"] = str(self.home / "node.toml")
        return _Program(f"node-{number}", self.home, command, variables)

    def _known(self) -> list[_Program]:
        """Return the programs that were started in this home, running or not."""
        found = []
        for file in sorted(self.log_folder.glob("*.pid")):
            if file.stem == "farmd":
                found.append(self._daemon())
            elif file.stem.startswith("node-"):
                found.append(self._agent(int(file.stem.removeprefix("node-"))))
        return found

    def _server(self) -> str:
        """Return the daemon's address for agents on this machine. Waits for the daemon if it chooses its own port."""
        host, _, port = self.config().server.listen.rpartition(":")
        if port != "0":
            return f"{'127.0.0.1' if host in ('0.0.0.0', '::', '[::]') else host}:{port}"
        while not self._profile.exists():
            self._check_alive(0)
            time.sleep(0.05)
        with self.client() as client:
            return client.server

    def _check_alive(self, nodes: int) -> None:
        for program in (self._daemon(), *(self._agent(number) for number in range(1, nodes + 1))):
            if not program.alive():
                raise StartFailed(_ended(program, program.tail(self._logged.get(program.name, 0))))

    def _held(self) -> bool:
        """Return whether a daemon holds this home's lock."""
        return "farmd" in running_in(self.home)

    @staticmethod
    def _end_alone(program: DetachedProcess) -> None:
        """End the program but not its children: Ray is ended properly afterwards."""
        for number, seconds in ((signal.SIGTERM, _DAEMON_SECONDS), (signal.SIGKILL, _LEFTOVER_SECONDS)):
            if (pid := program.pid) is None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            deadline = time.monotonic() + seconds
            # The lock shows whether it runs. The pid doesn't: it stays until the parent has collected the exit status.
            while program.alive() and time.monotonic() < deadline:
                time.sleep(0.05)

    def _end_leftovers(self) -> list[str]:
        left = list(self._marked())
        said = [f"{process.pid} {_command_line(process)}" for process in left]
        for end in (psutil.Process.terminate, psutil.Process.kill):
            for process in left:
                # A process of another user can't be ended; `stop` reports it as still running.
                with contextlib.suppress(psutil.Error):
                    end(process)
            _, left = psutil.wait_procs(left, _LEFTOVER_SECONDS)
        return said

    def _marked(self) -> Iterator[psutil.Process]:
        me = psutil.Process()
        family = {me.pid, *(process.pid for process in me.parents())}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid not in family and process.environ().get(MARK) == str(self.home):
                    yield process


def _ended(program: _Program, tail: str) -> str:
    """Return why a program ended: the line with which it refused to start, or else the end of its log."""
    last = tail.rstrip().rpartition("\n")[2]
    for name in ("farmd: ", "farm-node: "):
        if last.startswith(name):
            where = f" (see {program.log_file})" if "lines above" in last else ""
            return f"{program.name} ended: {last.removeprefix(name)}{where}"
    return f"{program.name} ended; the end of its log ({program.log_file}):\n{tail}"


def _node_name(number: int) -> str:
    return f"{socket.gethostname()}-{number}"


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _command_line(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())[:120]
    return ""
