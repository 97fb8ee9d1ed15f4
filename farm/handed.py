"""The message that a renderer gets with an attempt: the task and its inputs. Pure.

The JSON of the plan inside it is opaque here; farm.plan reads it.
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
    """A task's place in its lockstep group: its own `key` and `renderer`, and `places`, the renderers of its neighbours."""

    group: str
    key: str
    renderer: str
    places: dict[str, str]


@dataclass(frozen=True)
class HandedTask:
    """The task itself. `model` is the name of the model that does it, `weights` the hash of the model's weights."""

    key: str
    kind: str
    payload: Payload
    model: str
    weights: str


@dataclass(frozen=True)
class Handed:
    """All that a renderer gets with an attempt.

    `inputs` are the artifacts that the task needs, by the key of the task that made them ("" for the job's media) and by
    their names. `state` is what an earlier attempt saved, for this attempt to continue from. `notes` are the sentences that
    the farm has shown to people about the job so far.
    `job` (an id) and `node` (a name) are only for logs.
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
        """Read the bytes that `sent` returned. Raises Unreadable."""
        try:
            return read_value(cls, json.loads(sent))
        except ValueError as error:
            raise Unreadable(f"the task that the renderer got can't be read: {error}") from None

    def sent(self) -> bytes:
        """Return the bytes to send to a renderer."""
        return json.dumps(as_json(self)).encode()


def names_of(sent: bytes) -> dict[str, str]:
    """Return the names by which logs refer to a renderer's work: `job`, `task` and `node`. Empty if `sent` can't be read."""
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
