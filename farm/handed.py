"""What a renderer is handed with an attempt: the task, and all that it needs to do it. Pure.

What a task is told within it is read by farm.plan; here it is opaque.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Self

from farm.json_values import Unreadable, as_json, read_value
from farm.plan import JobJson, Payload


@dataclass(frozen=True)
class HandedArtifact:
    """An artifact that a task needs."""

    id: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Member:
    """What a task in lockstep must know of its group: its own `key` and `renderer`, and its neighbours' renderers."""

    group: str
    key: str
    renderer: str
    places: dict[str, str]


@dataclass(frozen=True)
class HandedTask:
    """The task itself, of what a renderer is handed. `model` and `weights`: what it is done with."""

    key: str
    kind: str
    payload: Payload
    model: str
    weights: str


@dataclass(frozen=True)
class Handed:
    """What a renderer is handed with an attempt.

    `inputs` are the artifacts that the task needs, by the key of the task that made them ("" for the job's media) and by
    their names. `state` is what an earlier attempt left to go on from. `notes` is what people are told of the job so far.
    `job` (an id) and `node` (a name) are for logs alone.
    """

    task: HandedTask
    shared: JobJson
    inputs: dict[str, dict[str, HandedArtifact]]
    member: Member | None = None
    state: HandedArtifact | None = None
    notes: tuple[str, ...] = ()
    job: str = ""
    node: str = ""

    @classmethod
    def read(cls, sent: bytes) -> Self:
        """What was sent. Raises Unreadable."""
        try:
            return read_value(cls, json.loads(sent))
        except ValueError as error:
            raise Unreadable(f"what the renderer was handed can't be read: {error}") from None

    def sent(self) -> bytes:
        """As it is sent to a renderer."""
        return json.dumps(as_json(self)).encode()


def names_of(sent: bytes) -> dict[str, str]:
    """Return what logs call the work that a renderer is handed: `job`, `task` and `node`; nothing where it says no such thing."""
    try:
        told = json.loads(sent)
        return {"job": told["job"], "task": told["task"]["key"], "node": told["node"]}
    except (ValueError, KeyError, TypeError):
        # Whoever is handed it says what is wrong with it.
        return {}


def fingerprint(key: str, kind: str, model: str, weights: str, shared: JobJson, payload: Payload) -> str:
    """SHA-256 of what there is to do and with what weights: two tasks that have it in common make the same."""
    work = [key, kind, model, weights, shared, payload]
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()
