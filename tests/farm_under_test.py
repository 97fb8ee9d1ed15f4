"""A whole farm for tests: real daemon, Ray, agents and renderers as processes, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
import psutil

from farm.artifacts import ArtifactStore
from farm.client import FarmClient
from farm.processes.children import python_command
from farm.store.store import Store
from farm.v1 import jobs_pb2, nodes_pb2
from farm.wire.security import Authority, join_token
from tests.farm_processes import (
    BRIDGE,
    HEAD,
    RENDERER,
    called,
    first,
    in_nobodys_hand,
    of_farm,
    raised_by,
    stored_latents,
    with_children,
)
from tests.pythons import python_with
from tests.traps import lay_traps, sprung

Answer = TypeVar("Answer")
WALKING = 0.4
"""A pace at which a test catches windows in the middle: seconds a step."""
SHOT = {"frames": 250, "width": 96, "height": 64, "seed": 11, "steps": 24}
"""A storyboard and three windows, of eight steps, which at that pace take three seconds each."""
FINAL = (jobs_pb2.JOB_STATE_SUCCEEDED, jobs_pb2.JOB_STATE_FAILED, jobs_pb2.JOB_STATE_CANCELLED)


def eventually(
    what: str, look: Callable[[], Answer | Literal[False] | None], seconds: float = 60.0, every: float = 0.2
) -> Answer:
    """The first true answer of `look`; fails the test after so many seconds.

    It is asked `every` so many: what a farm answers takes time of the cores that it renders on.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionError):
            if found := look():
                return found
        time.sleep(every)
    raise AssertionError(f"{what}: not within {seconds:g} s")


def assert_same(made: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Fails unless two jobs have made the same latents, within 1e-5, of the same tasks, of which there are several."""
    assert made.keys() == wanted.keys() and len(made) >= 5, (sorted(made), sorted(wanted))
    for key, latents in made.items():
        np.testing.assert_allclose(latents, wanted[key], rtol=0.0, atol=1e-5, err_msg=key)


def free_port() -> int:
    """A TCP port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class FarmUnderTest:
    """Processes of one farm under `home`; everything is ended and looked for by `close`.

    `pace`: seconds that each step of a window sleeps; see tests/walking_pace.py. `database`: where its farm.toml says
    that the record is; "" for the home's own file.
    """

    def __init__(self, home: Path, pace: float = 0.0, database: str = ""):
        self.home, self._pace = home, pace
        self._database = database or f"sqlite:///{home / 'farm.db'}"
        self.listen = f"127.0.0.1:{free_port()}"
        self._daemon: subprocess.Popen | None = None
        self._nodes: dict[str, subprocess.Popen] = {}
        self._logs: list = []

    @classmethod
    @contextlib.contextmanager
    def with_nodes(cls, home: Path, *nodes: str, pace: float = 0.0, **tomls: str) -> Iterator[Self]:
        """A farm of these nodes, of one thread each, their renderers up. `tomls`: settings by node."""
        farm = cls(home, pace)
        try:
            farm.start_daemon()
            for node in nodes:
                farm.start_node(node, toml=tomls.get(node))
            farm.wait_for_renderers(*nodes)
            yield farm
        finally:
            farm.close()

    def start_daemon(self) -> None:
        """Starts farmd and returns when it answers."""
        self._daemon = self._spawn(
            "farmd.main", "--home", self.home, "--listen", self.listen, log="farmd.log"
        )
        eventually("the daemon answers", self._answers)

    def kill_daemon(self) -> None:
        """kill -9."""
        self._started.send_signal(signal.SIGKILL)
        self._started.wait()

    @property
    def nodes(self) -> list[str]:
        """Nodes that were started and neither stopped nor killed since."""
        return list(self._nodes)

    @property
    def _started(self) -> subprocess.Popen:
        """The process of farmd, dead or alive."""
        assert self._daemon is not None, "farmd was never started"
        return self._daemon

    @property
    def daemon_pid(self) -> int:
        """Process of farmd, dead or alive."""
        return self._started.pid

    def daemon_ended(self) -> int | None:
        """Its exit status; None while it lives."""
        return self._started.poll()

    def start_node(self, name: str, *, threads: int = 1, toml: str | None = None) -> None:
        """Starts an agent; its renderer comes up by itself. `toml`: its settings, the ones it had unless given."""
        folder = self.home / "nodes" / name
        folder.mkdir(parents=True, exist_ok=True)
        if toml is not None or not (folder / "node.toml").exists():
            (folder / "node.toml").write_text(toml or "")
        self._nodes[name] = self._spawn(
            "nodeagent.agent", "--server", self.listen, "--home", folder, "--name", name,
            "--threads", threads, "--config", folder / "node.toml",
            "--join-token", join_token(Authority.open(self.home)), log=f"{name}.log",
        )  # fmt: skip

    def stop_node(self, name: str, number: int = signal.SIGINT) -> None:
        """SIGINT, at which it ends at once, or another signal; returns when the agent has ended."""
        process = self._nodes.pop(name)
        process.send_signal(number)
        process.wait(timeout=40)

    def kill_node(self, name: str) -> None:
        """kill -9 of all that runs on a node: agent, raylet and renderer."""
        agent = psutil.Process(self._nodes.pop(name).pid)
        for process in {*with_children(agent), *self.of_node(name)}:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        agent.wait()

    def wait_for_renderers(self, *names: str) -> None:
        """Returns when every device of these nodes can take work."""

        def up(client: FarmClient) -> bool:
            nodes = {node.name: node for node in client.nodes()}
            return all(
                name in nodes
                and nodes[name].state == nodes_pb2.NODE_STATE_ONLINE
                and nodes[name].models
                and all(device.renderer for device in nodes[name].devices)
                for name in names
            )

        with self.client as client:
            eventually(f"renderers of {', '.join(names)}", lambda: up(client), 90)

    @property
    def client(self) -> FarmClient:
        """A client with this farm's token."""
        return FarmClient.from_profile(self.home / "client.json")

    def submit(self, **fields: Any) -> str:
        """Submits and returns the job's id; small and quick unless `fields` say otherwise."""
        fields = {"frames": 49, "width": 128, "height": 96, "fps": 30.0, "prompt": "a red ball", **fields}
        with self.client as client:
            return client.submit(**fields).job.id

    def wait(self, job_id: str, seconds: float = 120.0) -> jobs_pb2.GetJobResponse:
        """The job, once it has ended."""
        with self.client as client:
            return eventually(
                f"job {job_id} ends",
                lambda: (answer := client.job(job_id)).job.state in FINAL and answer,
                seconds,
                every=0.5,
            )

    def succeed(self, job_id: str, seconds: float = 120.0) -> jobs_pb2.GetJobResponse:
        """The job, once it has succeeded."""
        answer = self.wait(job_id, seconds)
        assert answer.job.state == jobs_pb2.JOB_STATE_SUCCEEDED, answer.job.error
        return answer

    def running(
        self, job_id: str, kind: str, steps: int = 1, seconds: float = 120.0
    ) -> tuple[jobs_pb2.Task, jobs_pb2.Attempt]:
        """A task of that kind in the middle of its work: at least `steps` steps done and not the last.

        Fails at once when the job has ended: its tasks were too quick to be caught, and must be made longer.
        """

        def look(client: FarmClient) -> tuple[jobs_pb2.Task, jobs_pb2.Attempt] | None:
            answer = client.job(job_id)
            assert answer.job.state not in FINAL, f"{job_id} ended before a {kind} was seen in the middle"
            for task in answer.tasks:
                for attempt in task.attempts:
                    if (
                        task.kind == kind
                        and attempt.state == jobs_pb2.ATTEMPT_STATE_RUNNING
                        and steps <= attempt.step < attempt.steps - 1
                    ):
                        return task, attempt
            return None

        with self.client as client:
            return eventually(f"a {kind} of {job_id} is in the middle", lambda: look(client), seconds)

    @contextlib.contextmanager
    def record(self) -> Iterator[tuple[Store, ArtifactStore]]:
        """The farm's own record and files, read beside the daemon."""
        with Store.open(self._database) as store:
            yield store, ArtifactStore(str(self.home / "artifacts"))

    def latents(self, job_id: str) -> dict[str, np.ndarray]:
        """float32 latents [C, n, h, w] of every storyboard, window and join of a job, by key."""
        with self.record() as (store, files):
            return {key: latents for key, (_, latents) in stored_latents(store, files, job_id).items()}

    def tasks(self, job_id: str) -> list[jobs_pb2.Task]:
        """The job's tasks as they stand."""
        with self.client as client:
            return list(client.job(job_id).tasks)

    def ray_head(self) -> list[psutil.Process]:
        """The processes of the Ray head: launcher, control store and its own raylet."""
        return with_children(first(HEAD, self.processes()))

    def renderer_pids(self) -> list[int]:
        """Processes of all renderers of this farm."""
        return [process.pid for process in self.processes() if RENDERER in called(process)]

    def renderer_of(self, node: str) -> int:
        """Process of the node's renderer."""
        return first(RENDERER, self.of_node(node)).pid

    def bridge_pid(self) -> int:
        """Process of the Ray bridge."""
        return first(BRIDGE, self.processes()).pid

    def of_node(self, name: str) -> list[psutil.Process]:
        """Raylet and renderers of a node, and their helpers."""
        return raised_by(self.home, self.home / "nodes" / name)

    def processes(self) -> list[psutil.Process]:
        """Every process of this farm, however it was started."""
        return of_farm(self.home)

    def close(self) -> None:
        """Ends everything in order, then whatever is left, and says what that was."""
        for name in list(self._nodes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop_node(name)
        if self._daemon and self._daemon.poll() is None:
            self._daemon.terminate()
            self._daemon.wait(timeout=30)
        subprocess.run(
            self._python("farmd.main", "--home", self.home, "--stop"),
            check=False, env=self._environment(), cwd=self._called_in(), timeout=60,
        )  # fmt: skip
        left = self.processes()
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        for log in self._logs:
            log.close()
        assert not left, f"left running: {left}"
        assert not (found := in_nobodys_hand(self.home)), found
        assert not sprung(self._called_in()), "imported from the folder where it was called"

    def _answers(self) -> bool:
        assert self._started.poll() is None, (self.home / "farmd.log").read_text()[-2000:]
        try:
            with self.client as client:
                client.jobs(limit=1)
            return True
        except Exception:  # noqa: BLE001 - not up yet, whatever it says
            return False

    def _environment(self) -> dict[str, str]:
        plain = {**os.environ, "FARM_HOME": str(self.home), "HF_HUB_OFFLINE": "1"}
        return {**plain, "STEP_SECONDS": str(self._pace)} if self._pace else plain

    def _python(self, module: str, *arguments: object) -> list[str]:
        """The command line that runs `module`: at a pace with one more plugin installed."""
        command = python_command(module, *map(str, arguments))
        if not self._pace:
            return command
        site = self.home / "site"
        if not site.exists():
            information = site / "walking_pace-1.0.dist-info"
            information.mkdir(parents=True)
            shutil.copy(Path(__file__).with_name("walking_pace.py"), site)
            (information / "METADATA").write_text("Metadata-Version: 2.1\nName: walking_pace\nVersion: 1.0\n")
            entry = "[farm.rendering]\nwalking_pace = walking_pace\n"
            (information / "entry_points.txt").write_text(entry)
        return [python_with(self.home / "python", site), *command[1:]]

    def _called_in(self) -> Path:
        """The folder in which everything is called: full of modules that nobody may import."""
        folder = self.home / "called-in"
        return folder if folder.exists() else lay_traps(folder)

    def _spawn(self, module: str, *arguments: object, log: str) -> subprocess.Popen:
        self.home.mkdir(parents=True, exist_ok=True)
        file = (self.home / log).open("ab")
        self._logs.append(file)
        return subprocess.Popen(
            self._python(module, *arguments),
            env=self._environment(), cwd=self._called_in(), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
