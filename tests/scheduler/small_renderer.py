"""A renderer that does what its payload says: the bridge's tests run it in real Ray workers."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Question:
    """What one renderer wants of another."""

    group: str


class Peers(Protocol):
    """The other renderers."""

    def ask(self, renderer: str, question: Question) -> object:
        """What the one of that name answers, as JSON."""


class SmallRenderer:
    """Writes files, sleeps, raises."""

    def __init__(self, device: str, peers: Peers) -> None:
        if device == "broken":
            raise RuntimeError("this device has no memory left")
        self.device, self._peers = device, peers

    def run(self, attempt_id: str, epoch: int, payload: bytes) -> None:
        """Payload: JSON with started and finished (paths), seconds, error, and ask (a renderer) with answered (a path), all
        optional."""
        wish = json.loads(payload)
        if "started" in wish:
            Path(wish["started"]).write_text(str(os.getpid()))
        time.sleep(wish.get("seconds", 0))
        if "error" in wish:
            raise ValueError(wish["error"])
        if "ask" in wish:
            Path(wish["answered"]).write_text(json.dumps(self._peers.ask(wish["ask"], Question("g/1"))))
        if "finished" in wish:
            words = {"attempt": attempt_id, "epoch": epoch, "device": self.device, "pid": os.getpid()}
            words["threads"] = os.environ["OMP_NUM_THREADS"]
            Path(wish["finished"]).write_text(json.dumps(words))

    def ping(self) -> int:
        """Its pid."""
        return os.getpid()

    def answer(self, question: Question) -> tuple[bool, list[str]]:
        """How the question came."""
        return True, [type(question).__name__, question.group]


class EarlierActor:
    """As another version's bridge begins one."""

    def run(self, attempt_id: str, epoch: int, payload: bytes) -> None:
        """Do nothing."""

    def ping(self) -> int:
        """Its pid."""
        return os.getpid()
