"""The farm that benchmarks/faults.py does its worst to: real processes, found by role, ended and started again.

Here live its start and end, its database, what its record and its witness say of a job, and what it leaves behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import _root  # noqa: F401 - before tests
import numpy as np
import psutil
from fault_network import DAEMON, Cable, SmallDisk, brought_in
from fault_schedule import Sight, Try
from sqlalchemy import create_engine, select, text

from farm.artifacts import ArtifactStore
from farm.cli.local import LocalFarm, _Program
from farm.client.errors import FarmError
from farm.processes.children import python_command
from farm.store.store import Store
from farm.store.tables import events
from farm.v1 import jobs_pb2, nodes_pb2
from farm.wire.profile import NoProfile
from tests.farm_processes import (
    BRIDGE,
    HEAD,
    RAYLET,
    RENDERER,
    first,
    in_nobodys_hand,
    of_farm,
    raised_by,
    stored_latents,
    with_children,
)
from tests.postgres_server import PostgresServer, binaries
from tests.pythons import python_with

HERE = Path(__file__).parent
JOB: dict[str, Any] = {
    "frames": 137,
    "width": 192,
    "height": 128,
    "fps": 30.0,
    "seed": 7,
    "steps": 48,
    "prompt": "a red ball",
}
"""Two windows, so that three nodes have one to spare."""
READY_SECONDS = 240.0
ENDED = (jobs_pb2.JOB_STATE_SUCCEEDED, jobs_pb2.JOB_STATE_FAILED, jobs_pb2.JOB_STATE_CANCELLED)

Answer = TypeVar("Answer")


def until(what: str, look: Callable[[], Answer | Literal[False]], seconds: float) -> Answer:
    """The first true answer of `look`, asked again and again, also while nobody answers. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(FarmError, NoProfile, OSError, psutil.Error):
            if found := look():
                return found
        time.sleep(0.1)
    raise TimeoutError(f"{what}: not within {seconds:g} s")


class FaultFarm(LocalFarm):
    """A farm of `nodes` nodes in `home`, each at a cable of its own where `network`, on SQLite or PostgreSQL."""

    def __init__(self, home: Path, nodes: int, database: str, window_seconds: float, network: bool):
        super().__init__(home)
        shutil.rmtree(home, ignore_errors=True)
        self.nodes = list(range(1, nodes + 1))
        self.cables = {number: Cable(number) for number in self.nodes} if network else {}
        self.disks = {"artifacts": SmallDisk(home / "artifacts")} if network else {}
        for number in self.nodes if network else ():
            self.disks[f"home of node {number}"] = SmallDisk(home / "nodes" / str(number))
        self.control, self.witness = home / "control", home / "witness.jsonl"
        self.control.mkdir(parents=True, exist_ok=True)
        self.witness.touch()
        self.postgres: PostgresServer | None = None
        url = ""
        if database == "postgresql":
            programs = binaries()
            if programs is None:
                raise RuntimeError("postgresql: initdb is neither in PATH nor in /usr/lib/postgresql")
            self.postgres = PostgresServer(programs)
            self.postgres.start()
            url = self.postgres.url.format(name="farm")
            engine = create_engine(self.postgres.url.format(name="postgres"), isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text("CREATE DATABASE farm"))
            engine.dispose()
        listen = f"{DAEMON}:7433" if network else "127.0.0.1:0"
        (home / "farm.toml").write_text(f'[server]\nlisten = "{listen}"\n[store]\nurl = "{url}"\n')
        self._python = python_with(home / "python", _site(home), HERE.parent)
        self._url = url or f"sqlite:///{home / 'farm.db'}"
        os.environ |= {
            "FAULT_WITNESS": str(self.witness),
            "FAULT_CONTROL": str(self.control),
            "FAULT_SECONDS": str(window_seconds),
            "HF_HUB_OFFLINE": "1",
        }

    # Starting and finding processes

    def _daemon(self) -> _Program:
        return self._through_bench(super()._daemon(), "farmd", ())

    def _agent(self, number: int, server: str = "", token: str = "", threads: int = 1) -> _Program:
        prefix = self.cables[number].prefix if number in self.cables else ()
        return self._through_bench(super()._agent(number, server, token, threads), f"node-{number}", prefix)

    def _through_bench(self, program: _Program, role: str, prefix: Sequence[str]) -> _Program:
        """`program`, run by fault_process.py, after `prefix`."""
        command = program.command()
        words = command[command.index("-m") + 1 :]
        program.command = lambda: [*prefix, self._python, str(HERE / "fault_process.py"), role, *words]  # type: ignore[method-assign]
        return program

    def start_daemon(self) -> None:
        """Starts farmd, where it doesn't run."""
        self._daemon().start()

    def start_agent(self, number: int) -> None:
        """Starts a node's agent, where it doesn't run; its identity lies in its home."""
        with self.client() as client:
            self._agent(number, client.server).start()

    def pid(self, role: str) -> int:
        """Process of "farmd" or "node-1"."""
        program = self._daemon() if role == "farmd" else self._agent(int(role.removeprefix("node-")))
        if (pid := program.pid) is None:
            raise psutil.NoSuchProcess(0, role)
        return pid

    def processes(self) -> list[psutil.Process]:
        """Every process that this farm started and that isn't over."""
        return of_farm(self.home)

    def of_node(self, number: int) -> list[psutil.Process]:
        """All that runs on a node: agent, raylet, renderer and their helpers."""
        agent = psutil.Process(self.pid(f"node-{number}"))
        return [*with_children(agent), *self._raised_by(number)]

    def renderer(self, number: int) -> psutil.Process:
        """The node's renderer. Raises psutil.NoSuchProcess."""
        return first(RENDERER, self._raised_by(number))

    def raylet(self, number: int) -> psutil.Process:
        """The node's raylet. Raises psutil.NoSuchProcess."""
        return first(RAYLET, self._raised_by(number))

    def bridge(self) -> psutil.Process:
        """The Ray bridge. Raises psutil.NoSuchProcess."""
        return first(BRIDGE, self.processes())

    def head(self) -> list[psutil.Process]:
        """Launcher, control store and raylet of the Ray head. Raises psutil.NoSuchProcess."""
        return with_children(first(HEAD, self.processes()))

    def _raised_by(self, number: int) -> list[psutil.Process]:
        return raised_by(self.home, self.home / "nodes" / str(number))

    # Jobs

    def submit(self, **fields: Any) -> str:
        """The id of a job like JOB; tries until the farm takes it."""

        def submitted() -> str:
            with self.client() as client:
                client.patience = 5.0
                return client.submit(**JOB | fields).job.id

        return until("a job is taken", submitted, 60)

    def job(self, job_id: str) -> jobs_pb2.GetJobResponse:
        """The job as a client sees it. Raises FarmError."""
        with self.client() as client:
            return client.job(job_id)

    def ended(self, job_id: str, seconds: float) -> jobs_pb2.Job:
        """The job, once it has ended. Raises TimeoutError."""
        return until(
            f"{job_id} ends",
            lambda: (job := self.job(job_id).job).state in ENDED and job,
            seconds,
        )

    def resume(self) -> list[str]:
        """Take devices back of which the farm has set aside those whose renderers were killed in job after job.

        Returns the names of their nodes. It is what a person does who knows that it wasn't the device's fault. Where the
        farm doesn't answer nothing is done.
        """
        with contextlib.suppress(FarmError, NoProfile, OSError), self.client() as client:
            aside = [node.name for node in client.nodes() if any(d.quarantine for d in node.devices)]
            for name in aside:
                client.resume_node(name)
            return aside
        return []

    def ready(self) -> None:
        """Returns when every node can take work. Raises TimeoutError."""

        def up() -> bool:
            self.resume()
            with self.client() as client:
                nodes = list(client.nodes())
            online = [node for node in nodes if node.state == nodes_pb2.NODE_STATE_ONLINE and node.models]
            return len(online) == len(self.nodes) and all(d.renderer for node in online for d in node.devices)

        until("all renderers are up", up, READY_SECONDS)

    # The record and the witness

    @contextlib.contextmanager
    def record(self) -> Iterator[tuple[Store, ArtifactStore]]:
        """The farm's own record and files, read beside the daemon."""
        with Store.open(self._url) as store:
            yield store, ArtifactStore(str(self.home / "artifacts"))

    def tries(self, job_id: str) -> list[Try]:
        """Every attempt of a job."""
        with self.record() as (store, _):
            return [
                Try(each.id, each.epoch, task.key, str(task.kind), each.state == "succeeded")
                for task, attempts in store.jobs.tasks(job_id)
                for each in attempts
            ]

    def damaged(self, job_id: str) -> Counter[str]:
        """How often the result of a task was found damaged and given up, by task."""
        engine = create_engine(self._url)
        with engine.connect() as connection:
            query = select(events.c.task).where(events.c.job_id == job_id, events.c.kind == "damaged")
            found = Counter(connection.scalars(query))
        engine.dispose()
        return found

    def latents(self, job_id: str) -> dict[str, tuple[Path, np.ndarray]]:
        """Latents [C, n, h, w] of storyboards, windows and joins, and where they lie, by task; float32."""
        with self.record() as (store, files):
            return stored_latents(store, files, job_id)

    def sights(self) -> list[Sight]:
        """What the witness has seen so far, of all jobs."""
        lines = self.witness.read_text().splitlines()
        return [Sight(**json.loads(line)) for line in lines]

    def busy(self) -> list[int]:
        """Nodes in the middle of a storyboard or a window, as their witness said last."""
        last = {each.node: each.event for each in self.sights()}
        return sorted(int(node) for node, event in last.items() if event != "ended")

    # The end

    def end(self) -> dict[str, list[str]]:
        """`farmctl down`, and what was there after it: processes, shared memory, temporary files; and what the farm's own
        audit found meanwhile."""
        command = python_command("farm.cli", "down", "--home", str(self.home))
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
        said = [line for line in (done.stdout + done.stderr).splitlines() if "ended what was left" in line]
        left = {
            "processes": [*said, *(" ".join(process.cmdline())[:120] for process in self.processes())],
            "shared_memory": [],
            "temp_files": [],
            "in_nobodys_hand": in_nobodys_hand(self.home),
        }
        if self.cables:
            shared = sorted(path.name for path in Path("/dev/shm").iterdir())
            left["shared_memory"] = [name for name in shared if not name.startswith("PostgreSQL.")]
            own = {Path(str(self.postgres and self.postgres.url).partition("host=")[2]).name}
            left["temp_files"] = sorted(
                p.name for p in Path("/tmp").iterdir() if p.name not in own | brought_in()
            )
        if done.returncode:
            left["processes"].append(
                f"farmctl down ended with {done.returncode}: {done.stderr.strip()[-300:]}"
            )
        return left

    def close(self) -> None:
        """Takes away what `farmctl down` has no business with: database and network. Kills what is left."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self.postgres:
            self.postgres.remove()
        for cable in self.cables.values():
            cable.close()


def _site(home: Path) -> Path:
    """A folder in which the witness is an installed package."""
    site = home / "site"
    information = site / "fault_witness-1.0.dist-info"
    information.mkdir(parents=True)
    shutil.copy(HERE / "fault_witness.py", site)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: fault_witness\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[farm.rendering]\nfault_witness = fault_witness\n")
    return site
