"""The message that tells a renderer to attempt a task: the task and its inputs.

The message contains parts of the job's plan, as JSON. This module doesn't read that JSON; farm.plan does.
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
    """An artifact that a task needs. `size` is in bytes."""

    id: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Member:
    """A task's place in its lockstep group. It is sent to the renderer that does the task.

    Attributes:
        group: The group's name.
        key: The task's key.
        renderer: The name of the renderer that does the task.
        places: For the key of each neighbouring task, the name of the renderer that does it, if the farm knows one.
    """

    group: str
    key: str
    renderer: str
    places: dict[str, str]


@dataclass(frozen=True)
class HandedTask:
    """The task that a renderer is to do.

    Attributes:
        key: The task's key, such as "window/3".
        kind: The kind of task, such as "window".
        payload: The task's own part of the plan, as JSON.
        model: The name of the model to use.
        weights: The hash of the model's weights.
    """

    key: str
    kind: str
    payload: Payload
    model: str
    weights: str


@dataclass(frozen=True)
class Handed:
    """Everything that a renderer gets in order to attempt a task.

    Attributes:
        shared: The part of the plan that all tasks of the job get, as JSON.
        inputs: The artifacts that the task needs: `inputs[key][name]` is the artifact `name` made by the task `key`.
            The images and clips given with the job have the key "".
        member: The task's lockstep group; None: the task is in no group.
        state: The state saved by an earlier attempt, from which this attempt continues; None: this attempt starts
            from the beginning.
        notes: The notes for people that the job had when this message was made.
        job: The job's id, for logs.
        node: The node's name, for logs.
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
        """Read a message from `sent`, the bytes that a renderer got. Raises Unreadable."""
        try:
            return read_value(cls, json.loads(sent))
        except ValueError as error:
            raise Unreadable(
                f"the message that gives this renderer its task can't be read: {error}"
            ) from None

    def sent(self) -> bytes:
        """Return the message as bytes, to be sent to a renderer."""
        return json.dumps(as_json(self)).encode()


def names_of(sent: bytes) -> dict[str, str]:
    """Return the log fields that describe a message to a renderer.

    Args:
        sent: The message's bytes.

    Returns:
        The values of the fields `job`, `task` and `node`. Empty if the message can't be read.
    """
    try:
        told = json.loads(sent)
        return {"job": told["job"], "task": told["task"]["key"], "node": told["node"]}
    except (ValueError, KeyError, TypeError):
        # The renderer that gets it says what is wrong with it.
        return {}


def fingerprint(key: str, kind: str, model: str, weights: str, shared: JobJson, payload: Payload) -> str:
    """Return a SHA-256 of all that decides a task's result. Two tasks with the same fingerprint make the same result.

    Args:
        key: The task's key, such as "window/3".
        kind: The kind of task, such as "window".
        model: The model's name.
        weights: The hash of the model's weights.
        shared: The part of the plan that all tasks of the job get, as JSON.
        payload: The task's own part of the plan, as JSON.
    """
    work = [key, kind, model, weights, shared, payload]
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()
