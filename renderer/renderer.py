"""The renderer: one process for one device, a Ray actor in the farm and a plain class here.

It takes one attempt at a time from Ray, or several of one lockstep group, and says everything that matters to the agent
of its own machine. Importing this module imports no torch: what torch reads of its environment at import comes with
the agent's Setup.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from farm.plan import EXCHANGE, Handed, HandedTask
from farm.plugins import planning_plugins, rendering_plugins
from farm.rendering import MAX_FACTS, InputDamaged, OutOfMemory, Save, Stopped, StorageFailed
from farm.v1 import nodes_pb2, renderers_pb2
from renderer import HOME_VARIABLE, SOCKET_VARIABLE
from renderer.attachment import Attachment, Hold
from renderer.attempt_log import AttemptLog, log_folder
from renderer.disk import damaged_input, disk_trouble
from renderer.exchange import Answer, Exchange, Overlaps, Peers, Question
from renderer.transfer import Cache, TransferFailed, Wire, checksum
from renderer.work import Workbench, device_in_hand, task_in_hand
from renderer.work_folder import attempt_folder, cache_folder, device_folder, model_cache

STATE = "state"
"""Name of the artifact from which a task goes on elsewhere; what is in it is its plugin's affair."""


class Turn:
    """One thread computes at a time; whoever waits for something lets the next one go on.

    Members of a lockstep group have a thread each and one device together: memory for the activations of one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @contextlib.contextmanager
    def let_go(self) -> Iterator[None]:
        """For a wait of whoever has the turn."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()


class Renderer:
    """Serves `device`. `run` is called by one thread, `ping` and `answer` by others; `peers` reaches other renderers."""

    def __init__(self, device: str, peers: Peers):
        home = Path(os.environ[HOME_VARIABLE])
        self._work = device_folder(home, device)
        # What an earlier renderer of this device left.
        shutil.rmtree(self._work, ignore_errors=True)
        self._logs = log_folder(home)
        self._cache = Cache(cache_folder(home, device))
        self._attachment = Attachment(Path(os.environ[SOCKET_VARIABLE]), device)
        self._wire: Wire | None = None
        self._seen: deque[tuple[str, int]] = deque(maxlen=256)
        self._peers, self._overlaps = peers, Overlaps()
        self._turn, self._mine = Turn(), threading.local()
        self._group = ""
        self._members: list[threading.Thread] = []
        self._ready: Future[Workbench] = Future()
        # The first task should not wait for imports of several seconds.
        threading.Thread(target=self._prepare, name="prepare", daemon=True).start()

    def ping(self) -> int:
        """Process id; answers while a task runs."""
        return os.getpid()

    def answer(self, question: Question) -> Answer:
        """What another renderer's member wants of one here; answers while tasks run."""
        return self._overlaps.answer(question)

    def run(self, attempt_id: str, epoch: int, payload: bytes) -> None:
        """Do an attempt's task once its lease has come; returns when its end is in the agent's journal.

        `payload` is a farm.plan.Handed as it is sent. A member of a lockstep group is left to a thread of its own and this
        returns at once, so that others of its group can come; anything else waits until they are done. A call that Ray
        repeats does nothing.
        """
        if (attempt_id, epoch) in self._seen:
            return
        self._seen.append((attempt_id, epoch))
        handed = Handed.read(payload)
        member = handed.member
        if not member or member.group != self._group:
            for thread in self._members:
                thread.join()
            self._members, self._group = [], member.group if member else ""
            self._cache.trim()
        hold = self._attachment.begin(attempt_id, epoch)
        if not member:
            self._serve(hold, nodes_pb2.AttemptRef(attempt_id=attempt_id, epoch=epoch), handed, None)
            return

        def finished(neighbour: str) -> Path | None:
            done = handed.inputs.get(neighbour, {}).get(EXCHANGE)
            if not done:
                return None
            with self._turn:
                return self._cache.get(done, self._wire_for(self._attachment.setup()))

        exchange = Exchange(self._overlaps, self._peers, hold, member, finished)
        work = hold, nodes_pb2.AttemptRef(attempt_id=attempt_id, epoch=epoch), handed, exchange
        thread = threading.Thread(target=self._serve, args=work, name=handed.task.key, daemon=True)
        self._members = [*(other for other in self._members if other.is_alive()), thread]
        thread.start()

    def _serve(
        self, hold: Hold, attempt: nodes_pb2.AttemptRef, handed: Handed, exchange: Exchange | None
    ) -> None:
        try:
            self._do(hold, attempt, handed, exchange)
        finally:
            # Whatever went wrong here, nothing is in hand that nobody works on.
            hold.let_go()

    def _do(
        self, hold: Hold, attempt: nodes_pb2.AttemptRef, handed: Handed, exchange: Exchange | None
    ) -> None:
        began = time.monotonic()
        say: Callable[[str], None] = _nobody_reads
        folder = attempt_folder(self._work, attempt)
        completion = nodes_pb2.Completion()
        self._mine.hold, self._mine.delivering = hold, False
        with contextlib.ExitStack() as logging:
            try:
                hold.checkpoint()
                # Not before its lease has come: by then the agent knows whose log this is.
                say = logging.enter_context(AttemptLog(self._logs, attempt)).say
                say(_introduction(handed.task, attempt))
                with self._turn:
                    began = time.monotonic()
                    workbench = self._ready.result()
                    _limit_threads(self._attachment.setup().threads)
                    folder.mkdir(parents=True)
                    facts: dict[str, Any] = {}
                    made, completion.working_seconds = self._perform(
                        workbench, hold, attempt, handed, folder, facts, exchange, say
                    )
                completion.artifact_ids.extend(made)
                completion.facts.update(_checked(facts))
                completion.outcome = nodes_pb2.OUTCOME_SUCCEEDED
            except Stopped as stopped:
                completion.outcome, completion.error = nodes_pb2.OUTCOME_CANCELLED, str(stopped)
                if stopped.state:
                    completion.outcome = nodes_pb2.OUTCOME_STOPPED
                    completion.artifact_ids.append(stopped.state)
            except OutOfMemory:
                completion.outcome, completion.error = (
                    nodes_pb2.OUTCOME_OUT_OF_MEMORY,
                    traceback.format_exc(),
                )
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything, and the farm wants to know
                completion.outcome, completion.error = nodes_pb2.OUTCOME_FAILED, traceback.format_exc()
                if damaged := damaged_input(error):
                    completion.outcome, completion.error = nodes_pb2.OUTCOME_DAMAGED_INPUT, str(damaged)
                    completion.damaged_artifact_ids.append(damaged.artifact_id)
                elif trouble := disk_trouble(error, self._work):
                    completion.outcome = nodes_pb2.OUTCOME_STORAGE
                    # First, because it is what people are to be told: a library's own words may not say it.
                    completion.error = f"{trouble}\n{completion.error}"
            completion.seconds = time.monotonic() - began
            outcome = nodes_pb2.Outcome.Name(completion.outcome).removeprefix("OUTCOME_").lower()
            say(f"{outcome} after {completion.seconds:.1f} s\n{completion.error}".rstrip())
        # Only here is the traceback gone that kept the tensors alive. Other members go on with the model.
        if completion.outcome == nodes_pb2.OUTCOME_OUT_OF_MEMORY and not exchange:
            workbench.free()
        shutil.rmtree(folder, ignore_errors=True)
        hold.complete(completion)
        if exchange:
            exchange.close()

    def _perform(
        self,
        workbench: Workbench,
        hold: Hold,
        attempt: nodes_pb2.AttemptRef,
        handed: Handed,
        folder: Path,
        facts: dict[str, Any],
        exchange: Exchange | None,
        say: Callable[[str], None],
    ) -> tuple[list[str], float]:
        """Ids of the artifacts it made, and the seconds from its first step to its end; `facts` gets what it found.

        `say` writes to the attempt's log.

        Of a member of a group the seconds are 0: most of them it waited for others, so they measure nothing.
        """
        setup = self._attachment.setup()
        wire = self._wire_for(setup)

        def fetch(key: str, name: str) -> Path:
            try:
                artifact = handed.inputs[key][name]
            except KeyError:
                raise KeyError(f"task {handed.task.key} was given no artifact {name!r} of {key!r}") from None
            path = self._cache.get(artifact, wire)
            say(f"has {name} of {key or 'the job'}, {artifact.size} bytes")
            return path

        working_since: list[float] = []
        state = folder / f"{STATE}.safetensors"

        def step(done: int, total: int, save: Save | None = None) -> None:
            hold.progress(done, total)
            say(f"step {done} of {total} done")
            try:
                while not hold.runs():
                    say("waits for its lease")
                    with self._turn.let_go():
                        hold.checkpoint()
            except Stopped as stopped:
                if stopped.keeping and done >= total:
                    return  # what there is to keep is the result
                if stopped.keeping and save:
                    _save(save, state)
                raise
            # One that goes on from an earlier attempt's state does a part of its work, so it measures nothing.
            if not working_since and not exchange and done == 0:
                working_since.append(time.monotonic())

        def saved() -> Path | None:
            if handed.state is None:
                return None
            try:
                return self._cache.get(handed.state, wire)
            except (InputDamaged, StorageFailed, TransferFailed, OSError) as error:
                why = f"the state that an earlier attempt left could not be fetched: {error}"
                tell(f"began anew, because {why}", {"began_anew": why})
                return None

        def tell(summary: str, found: dict[str, Any]) -> None:
            facts.update(found, summary=summary)
            say(summary)

        def trade(number: int, mine: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            assert exchange is not None  # else nothing is traded
            with self._turn.let_go():
                return exchange(number, mine)

        task = task_in_hand(handed, folder, fetch, step, tell, trade if exchange else None, saved)
        try:
            made = workbench.perform(task, dict(setup.models))
        except Stopped as stopped:
            if state.exists():
                stopped.state = self._deliver_state(wire, state, attempt)
            raise
        ended = time.monotonic()
        if exchange:
            made[EXCHANGE] = exchange.save(folder / f"{EXCHANGE}.safetensors")
        for name, path in made.items():
            say(f"made {name}, {path.stat().st_size} bytes")
        ids = [self._deliver(wire, name, path, attempt) for name, path in made.items()]
        return ids, ended - working_since[0] if working_since else 0.0

    def _deliver_state(self, wire: Wire, path: Path, attempt: nodes_pb2.AttemptRef) -> str:
        """Its artifact's id; empty when the farm doesn't take it: then the next attempt begins anew."""
        try:
            return self._deliver(wire, STATE, path, attempt)
        except (Stopped, StorageFailed, TransferFailed, OSError):
            traceback.print_exc()
            return ""

    def _deliver(self, wire: Wire, name: str, path: Path, attempt: nodes_pb2.AttemptRef) -> str:
        sha256 = checksum(path)
        self._mine.delivering = True
        try:
            artifact_id = wire.upload(name, path, sha256, attempt)
        finally:
            self._mine.delivering = False
        self._cache.keep(path, sha256)
        return artifact_id

    def _wire_for(self, setup: renderers_pb2.Setup) -> Wire:
        if self._wire is None or self._wire.setup != setup:
            if self._wire:
                self._wire.close()
            self._wire = Wire(setup, self._pause)
        return self._wire

    def _pause(self, seconds: float) -> None:
        """A wait for the farm, of the thread that has the turn."""
        with self._turn.let_go():
            self._mine.hold.pause(seconds, delivering=self._mine.delivering)

    @contextlib.contextmanager
    def _loading(self, model: str) -> Iterator[None]:
        """Of the thread that loads: parts of a model may be loaded within the loading of another."""
        hold, before = self._mine.hold, getattr(self._mine, "loads", "")
        self._mine.loads = model
        hold.loading(model)
        try:
            yield
        finally:
            self._mine.loads = before
            hold.loading(before)

    def _prepare(self) -> None:
        try:
            setup = self._attachment.setup()
            _set_environment(setup)
            with _uncollected():
                device = device_in_hand(setup.backend, setup.threads, setup.vram_bytes, self._loading)
                plugins = planning_plugins(), rendering_plugins()
            self._ready.set_result(Workbench(*plugins, device, model_cache(Path(os.environ[HOME_VARIABLE]))))
        except Exception as error:  # noqa: BLE001 - told with every task
            self._ready.set_exception(error)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """For imports: what they make stays, and the garbage collector need not walk through it, neither now nor later.

    It takes a sixth of the time that torch and diffusers take to import.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _nobody_reads(line: str) -> None:
    """Before an attempt may run it has no log."""


def _introduction(task: HandedTask, attempt: nodes_pb2.AttemptRef) -> str:
    return (
        f"{task.key}, epoch {attempt.epoch}, process {os.getpid()} on {socket.gethostname()}, "
        f"model {task.model} ({task.weights})"
    )


def _save(save: Save, path: Path) -> None:
    """What can't be saved costs time and nothing else: the next attempt begins anew."""
    try:
        save(path)
    except Exception:  # noqa: BLE001 - a plugin may raise anything
        traceback.print_exc()
        path.unlink(missing_ok=True)


def _checked(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts as JSON has them. Raises ValueError for what the farm could never store, TypeError for no JSON."""
    text = json.dumps(facts, allow_nan=False)
    if len(text) > MAX_FACTS:
        raise ValueError(f"facts: {len(text)} bytes were told, at most {MAX_FACTS} are kept")
    return json.loads(text)


def _set_environment(setup: renderers_pb2.Setup) -> None:
    """What torch and its libraries read when they are imported."""
    threads = str(setup.threads)
    os.environ |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    # torch makes it as soon as it is imported, by default among the machine's temporary files, where nobody clears it away.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(os.environ[HOME_VARIABLE]) / "cache" / "torch"))
    # Spinning threads of several renderers on the same cores cost a factor of 18 (docs/ray.md, 16).
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    if setup.backend == "cuda":
        os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(setup.index)}
    elif setup.backend == "rocm":
        os.environ |= {"HIP_VISIBLE_DEVICES": str(setup.index)}
    else:
        os.environ |= {"CUDA_VISIBLE_DEVICES": ""}


def _limit_threads(threads: int) -> None:
    """torch keeps its number of threads per thread: it has to be said in the one that renders."""
    torch = sys.modules.get("torch")
    if torch and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
