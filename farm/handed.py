"""The message that a renderer gets with an attempt: the task and its inputs. Pure.

The plan inside the message is JSON, which this module doesn't look into; farm.plan reads it.
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
    """A task's part in its lockstep group: its `key`, its `renderer`, and in `places` each neighbour's renderer."""

    group: str
    key: str
    renderer: str
    places: dict[str, str]


@dataclass(frozen=True)
class HandedTask:
    """The task of an attempt. `model` names the model that does it, `weights` is the hash of the model's weights."""

    key: str
    kind: str
    payload: Payload
    model: str
    weights: str


@dataclass(frozen=True)
class Handed:
    """Everything that a renderer gets with an attempt.

    `inputs[key][name]` is an artifact that the task needs: `key` is the task that made it ("" for the job's media),
    `name` is the artifact's name. `state` is what an earlier attempt saved; this attempt continues from there. `notes`
    are the sentences about the job that the farm has shown to people so far. `job` (an id) and `node` (a name) are only
    for logs.
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
        """Return the Handed whose bytes are `sent`. Raises Unreadable."""
        try:
            return read_value(cls, json.loads(sent))
        except ValueError as error:
            raise Unreadable(f"the task that the renderer got can't be read: {error}") from None

    def sent(self) -> bytes:
        """Return the value as bytes that can be sent to a renderer."""
        return json.dumps(as_json(self)).encode()


def names_of(sent: bytes) -> dict[str, str]:
    """Return the fields by which logs name a renderer's work: `job`, `task`, `node`. Empty if `sent` is unreadable."""
    try:
        told = json.loads(sent)
        return {"job": told["job"], "task": told["task"]["key"], "node": told["node"]}
    except (ValueError, KeyError, TypeError):
        # The renderer that gets it says what is wrong with it.
        return {}


def fingerprint(key: str, kind: str, model: str, weights: str, shared: JobJson, payload: Payload) -> str:
    """Return a SHA-256 of a task's plan, model and weights. Two tasks with the same fingerprint make the same result."""
    work = [key, kind, model, weights, shared, payload]
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()
