"""The renderer: one process for one device. In the farm it is a Ray actor; this module defines it as a plain class.

The renderer gets its attempts from Ray, one at a time or several of one lockstep group. It reports to the node agent of
its own machine. Importing this module doesn't import torch: torch reads environment variables on import, and the agent
sends the values of these variables only later, in a Setup message.
"""

from __future__ import annotations

import contextlib
import gc
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
from contextlib import AbstractContextManager
from pathlib import Path

from farm.handed import Handed, HandedTask
from farm.plan import EXCHANGE
from farm.plugins import planning_plugins, rendering_plugins
from farm.rendering import DeviceInfo, OutOfMemory, Stopped
from farm.v1 import nodes_pb2, renderers_pb2
from farm.wire.messages import outcome_name
from renderer import HOME_VARIABLE, SOCKET_VARIABLE
from renderer.attachment import Attachment, Hold
from renderer.attempt import Attempt
from renderer.attempt_log import AttemptLog, log_folder
from renderer.disk import damaged_input, disk_trouble
from renderer.exchange import Answer, Exchange, NeighbourRequest, Overlaps, Peers
from renderer.process_log import attempt_line, open_process_log
from renderer.transfer import Cache, Wire
from renderer.turn import Turn
from renderer.work import Workbench
from renderer.work_folder import attempt_folder, cache_folder, device_folder, model_cache


class Renderer:
    """Does the tasks that Ray sends to one device.

    Ray calls `run` in one thread, and `ping` and `answer` in others. So `ping` and `answer` return even during a task.

    Args:
        device: The name of the device.
        peers: The way to the other renderers. Windows of a lockstep group exchange arrays through it.
    """

    def __init__(self, device: str, peers: Peers):
        home = Path(os.environ[HOME_VARIABLE])
        open_process_log(home, device)
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
        """Return the process id. This answers at once, even while a task runs."""
        return os.getpid()

    def answer(self, question: NeighbourRequest) -> Answer:
        """Answer another renderer's request for an array of a lockstep window. This works while tasks run."""
        return self._overlaps.answer(question)

    def run(self, attempt_id: str, epoch: int, payload: bytes) -> None:
        """Wait for an attempt's lease, do its task, and return when the agent has recorded the outcome.

        For a member of a lockstep group, a new thread does all this and the method returns at once, so that Ray can
        start the group's other members too. Attempts outside the group wait until all running members have ended. If
        Ray repeats a call, the repeated call does nothing.

        Args:
            payload: a serialized farm.handed.Handed, which describes the task.
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
        hold = self._attachment.begin(attempt_id, epoch, handed.job, handed.task.key)
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
        self, hold: Hold, reference: nodes_pb2.AttemptRef, handed: Handed, exchange: Exchange | None
    ) -> None:
        try:
            self._do(hold, reference, handed, exchange)
        finally:
            # Whatever went wrong here, nothing is in hand that nobody works on.
            hold.let_go()

    def _do(
        self, hold: Hold, reference: nodes_pb2.AttemptRef, handed: Handed, exchange: Exchange | None
    ) -> None:
        began = time.monotonic()
        say: Callable[[str], None] = _nobody_reads
        folder = attempt_folder(self._work, reference)
        completion = nodes_pb2.Completion()
        log = attempt_line(reference.attempt_id, reference.epoch, handed)
        with contextlib.ExitStack() as logging:
            try:
                hold.checkpoint()
                # Not before its lease has come: by then the agent knows whose log this is.
                say = logging.enter_context(AttemptLog(self._logs, reference)).say
                say(_introduction(handed.task, reference))
                log.info("work begun")
                with self._turn:
                    began = time.monotonic()
                    workbench = self._ready.result()
                    setup = self._attachment.setup()
                    _limit_threads(setup.threads)
                    folder.mkdir(parents=True)
                    wire = self._wire_for(setup)
                    attempt = Attempt(
                        hold, reference, handed, folder, say, wire, self._cache, self._turn, exchange
                    )
                    self._mine.attempt = attempt
                    made, completion.working_seconds = attempt.perform(workbench, dict(setup.models))
                completion.artifact_ids.extend(made)
                completion.facts.update(attempt.facts())
                completion.outcome = nodes_pb2.OUTCOME_SUCCEEDED
            except Stopped as stopped:
                completion.outcome, completion.error = nodes_pb2.OUTCOME_CANCELLED, str(stopped)
                if stopped.state:
                    completion.outcome = nodes_pb2.OUTCOME_STOPPED
                    completion.artifact_ids.append(stopped.state)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything, and the farm wants to know
                _record_failure(completion, error, self._work)
            completion.seconds = time.monotonic() - began
            outcome = outcome_name(completion.outcome)
            say(f"{outcome} after {completion.seconds:.1f} s\n{completion.error}".rstrip())
            log.info("work ended", outcome=outcome, seconds=round(completion.seconds, 3))
        # Only here is the traceback gone that kept the tensors alive. Other members go on with the model.
        if completion.outcome == nodes_pb2.OUTCOME_OUT_OF_MEMORY and not exchange:
            workbench.free()
        shutil.rmtree(folder, ignore_errors=True)
        hold.complete(completion)
        if exchange:
            exchange.close()

    def _wire_for(self, setup: renderers_pb2.Setup) -> Wire:
        if self._wire is None or self._wire.setup != setup:
            if self._wire:
                self._wire.close()
            self._wire = Wire(setup, self._pause)
        return self._wire

    def _pause(self, seconds: float) -> None:
        """Wait for the farm, in the thread that has the turn."""
        self._mine.attempt.pause(seconds)

    def _loading(self, model: str) -> AbstractContextManager[None]:
        """Report a loading for the attempt of the thread that loads."""
        return self._mine.attempt.loading(model)

    def _prepare(self) -> None:
        try:
            setup = self._attachment.setup()
            _set_environment(setup)
            with _uncollected():
                # Index 0: the environment hides all other devices of its kind.
                device = DeviceInfo(setup.backend, 0, setup.threads, setup.vram_bytes, self._loading)
                plugins = planning_plugins(), rendering_plugins()
            self._ready.set_result(Workbench(*plugins, device, model_cache(Path(os.environ[HOME_VARIABLE]))))
        except Exception as error:  # noqa: BLE001 - told with every task
            self._ready.set_exception(error)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector away from the objects that imports in the body make, now and later: they stay anyway.

    Walking through them takes a sixth of the time that torch and diffusers take to import.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _nobody_reads(line: str) -> None:
    """Drop a line: an attempt has no log before it may run."""


def _introduction(task: HandedTask, attempt: nodes_pb2.AttemptRef) -> str:
    return (
        f"{task.key}, epoch {attempt.epoch}, process {os.getpid()} on {socket.gethostname()}, "
        f"model {task.model} ({task.weights})"
    )


def _record_failure(completion: nodes_pb2.Completion, error: BaseException, folder: Path) -> None:
    """Write into `completion` how an attempt that raised `error` ended. `folder`: the folder of its device."""
    completion.error = "".join(traceback.format_exception(error))
    if isinstance(error, OutOfMemory):
        completion.outcome = nodes_pb2.OUTCOME_OUT_OF_MEMORY
        return
    completion.outcome = nodes_pb2.OUTCOME_FAILED
    if damaged := damaged_input(error):
        completion.outcome, completion.error = nodes_pb2.OUTCOME_DAMAGED_INPUT, str(damaged)
        completion.damaged_artifact_ids.append(damaged.artifact_id)
    elif trouble := disk_trouble(error, folder):
        completion.outcome = nodes_pb2.OUTCOME_STORAGE
        # First, because it is what people are to be told: a library's own words may not say it.
        completion.error = f"{trouble}\n{completion.error}"


def _set_environment(setup: renderers_pb2.Setup) -> None:
    """Set the variables that torch and its libraries read when they are imported."""
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
    """Set torch's number of threads in the thread that renders: torch keeps the number for each thread."""
    torch = sys.modules.get("torch")
    if torch and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
