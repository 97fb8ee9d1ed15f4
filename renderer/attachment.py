"""A renderer's link to its agent: a stream that reconnects by itself.

Over this link the renderer gets the leases of its attempts, and reports how the attempts go. The agent sets the end of
each lease. farm.policy.lease says what an attempt may do before and after that end.

The threads that render call the methods of this module. Only threads of this module talk to the agent.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from pathlib import Path
from typing import Any

import grpc

from farm.clock import boottime
from farm.policy.lease import HeldAttempt, Standing
from farm.rendering import Stopped
from farm.v1 import nodes_pb2, renderers_pb2, renderers_pb2_grpc

_RETRY_SECONDS = 0.3
_PROGRESS_SECONDS = 0.25

IN_HAND_SECONDS = 2.0
"""Between two words to the agent of all that is in hand here."""

KEEP_SECONDS = 30.0
"""How long an attempt that has to end tries to bring what it has to a farm that doesn't take it at once."""


class Attachment:
    """A renderer's link to the agent that listens on `socket`."""

    def __init__(self, socket: Path, device: str):
        self._socket = socket
        self._device = device
        self._changed = threading.Condition()
        self._setup: renderers_pb2.Setup | None = None
        self._holds: dict[tuple[str, int], Hold] = {}
        self._outbox: queue.SimpleQueue[renderers_pb2.AttachRequest | None] | None = None
        threading.Thread(target=self._stay_attached, name="attachment", daemon=True).start()
        threading.Thread(target=self._keep_telling, name="in hand", daemon=True).start()

    def setup(self) -> renderers_pb2.Setup:
        """Return the agent's latest settings for this renderer. If none have arrived yet, wait for them."""
        with self._changed:
            self._changed.wait_for(lambda: self._setup is not None)
            return self._setup  # type: ignore[return-value]

    def begin(self, attempt_id: str, epoch: int, job: str = "", task: str = "") -> Hold:
        """Begin an attempt, and ask the agent for the attempt's lease.

        `job` (an id) and `task` (a key) are for the agent's log.

        Returns:
            A Hold. With it, the thread that does the work checks the lease and reports to the agent.
        """
        with self._changed:
            hold = self._holds[attempt_id, epoch] = Hold(self, HeldAttempt(attempt_id, epoch), job, task)
            self._send(hold._begin())
            return hold

    def _send(self, request: renderers_pb2.AttachRequest) -> None:
        if self._outbox is not None:
            self._outbox.put(request)

    def _stay_attached(self) -> None:
        while True:
            outbox: queue.SimpleQueue[renderers_pb2.AttachRequest | None] = queue.SimpleQueue()
            # A new channel each time: an old one would wait longer and longer before it tries again.
            with grpc.insecure_channel(f"unix:{self._socket}") as channel:
                with self._changed:
                    self._outbox = outbox
                    self._introduce()
                try:
                    for response in renderers_pb2_grpc.RendererServiceStub(channel).Attach(
                        iter(outbox.get, None)
                    ):
                        self._received(response)
                except grpc.RpcError:
                    pass
                with self._changed:
                    self._outbox = None
                outbox.put(None)
            time.sleep(_RETRY_SECONDS)

    def _keep_telling(self) -> None:
        while True:
            time.sleep(IN_HAND_SECONDS)
            with self._changed:
                attempts = [hold._reference() for hold in self._holds.values()]
                in_hand = renderers_pb2.InHand(attempts=attempts)
                self._send(renderers_pb2.AttachRequest(in_hand=in_hand))

    def _introduce(self) -> None:
        introduction = renderers_pb2.Introduction(device=self._device, pid=os.getpid())
        self._send(renderers_pb2.AttachRequest(introduction=introduction))
        for hold in self._holds.values():
            self._send(hold._begin())
            if hold._loads:
                self._send(hold._loading())
            if hold._end is not None:
                self._send(renderers_pb2.AttachRequest(completion=hold._end))

    def _received(self, response: renderers_pb2.AttachResponse) -> None:
        kind = response.WhichOneof("message")
        message = getattr(response, kind) if kind else None
        with self._changed:
            if kind == "setup":
                self._setup = message
            elif message and (hold := self._holds.get((message.attempt.attempt_id, message.attempt.epoch))):
                hold._told(kind or "", message)
            self._changed.notify_all()


class Hold:
    """An attempt that this renderer runs, or will run once the attempt has a lease.

    The thread that does the work gets a Hold from `Attachment.begin`. With it, the thread checks the attempt's lease
    and reports to the agent.
    """

    def __init__(self, attachment: Attachment, held: HeldAttempt, job: str, task: str):
        self._attachment, self._changed = attachment, attachment._changed
        self._held, self._job, self._task = held, job, task
        self._end: nodes_pb2.Completion | None = None
        self._last_progress = -1.0
        self._from_step: int | None = None
        self._loads = ""
        self._stopped_at = 0.0

    def runs(self) -> bool:
        """Return whether the attempt's lease is valid now. Raises Stopped if the attempt was stopped."""
        with self._changed:
            standing = self._held.standing(boottime())
            if standing is Standing.STOPPED:
                raise self._stop()
            return standing is Standing.RUNNING

    def checkpoint(self) -> None:
        """Return at once if the attempt's lease is valid; otherwise wait until the lease is renewed.

        Raises Stopped if the attempt was stopped.
        """
        with self._changed:
            while not self.runs():
                self._changed.wait()

    def pause(self, seconds: float, *, delivering: bool = False) -> None:
        """Wait for `seconds`, or until the attempt is stopped.

        The end of the lease doesn't end the wait, because the farm accepts a late result.

        Args:
            seconds: how long to wait.
            delivering: True while the attempt sends a file to the farm. The farm may then stop the attempt so that
                the task can continue elsewhere. In that case Stopped is raised only KEEP_SECONDS after the stop, so
                that the attempt can still send the file.

        Raises:
            Stopped: the attempt was stopped.
        """

        def over() -> bool:
            patient = delivering and self._held.keeping and boottime() < self._stopped_at + KEEP_SECONDS
            return self._held.stopped is not None and not patient

        with self._changed:
            if self._changed.wait_for(over, seconds):
                raise self._stop()

    def _stop(self) -> Stopped:
        return Stopped(self._held.stopped or "", keeping=self._held.keeping)

    def progress(self, step: int, steps: int) -> None:
        """Tell the agent that the attempt is at `step` of `steps`.

        The agent is told at most four times a second, but always of the last step.
        The first call also tells the agent at which step the attempt began.
        """
        if self._from_step is None:
            self._from_step = step
        now = time.monotonic()
        if now - self._last_progress < _PROGRESS_SECONDS and step < steps:
            return
        self._last_progress = now
        with self._changed:
            message = nodes_pb2.Progress(
                attempt=self._reference(), step=step, steps=steps, from_step=self._from_step
            )
            self._attachment._send(renderers_pb2.AttachRequest(progress=message))

    def loading(self, model: str) -> None:
        """Report that a model is being loaded for the attempt, or that loading has ended.

        `model`: the model's name; "" if loading has ended.
        """
        with self._changed:
            self._loads = model
            self._attachment._send(self._loading())

    def complete(self, completion: nodes_pb2.Completion) -> None:
        """Report the attempt's end, and wait until the agent has written the report to its journal."""
        with self._changed:
            completion.attempt.CopyFrom(self._reference())
            self._end = completion
            self._attachment._send(renderers_pb2.AttachRequest(completion=completion))
            self._changed.wait_for(lambda: self._end is None)
            self.let_go()

    def let_go(self) -> None:
        """Give the attempt up. If its end was not reported before, the agent reports the attempt as failed."""
        with self._changed:
            self._attachment._holds.pop((self._held.attempt_id, self._held.epoch), None)

    def _reference(self) -> nodes_pb2.AttemptRef:
        return nodes_pb2.AttemptRef(attempt_id=self._held.attempt_id, epoch=self._held.epoch)

    def _loading(self) -> renderers_pb2.AttachRequest:
        loading = nodes_pb2.Loading(attempt=self._reference(), model=self._loads)
        return renderers_pb2.AttachRequest(loading=loading)

    def _begin(self) -> renderers_pb2.AttachRequest:
        begin = renderers_pb2.Begin(attempt=self._reference(), job=self._job, task=self._task)
        return renderers_pb2.AttachRequest(begin=begin)

    def _told(self, kind: str, message: Any) -> None:
        if kind == "lease":
            self._held = self._held.granted(message.attempt.attempt_id, message.attempt.epoch, message.until)
        elif kind == "cancel":
            before, attempt = self._held, message.attempt
            self._held = before.cancelled(
                attempt.attempt_id, attempt.epoch, message.reason, message.keep_state
            )
            if before.stopped is None:
                self._stopped_at = boottime()
        elif kind == "journaled":
            self._end = None
