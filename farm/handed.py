"""The message that tells a renderer to attempt a task: the task and its inputs.

The message contains parts of the job's plan, as JSON. This module doesn't read that JSON; farm.plan does.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Self

from farm.json_values import Unreadable, as_json, read_lazily, read_value
from farm.plan import JobJson, Payload


@dataclass(frozen=True)
class HandedArtifact:
    """An artifact that a task needs. `size` is in bytes."""

    id: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Member:
    """A task's place in its lockstep group, as sent to the task's renderer.

    The tasks of a lockstep group denoise at the same time, step by step.

    Attributes:
        group: The group's name.
        key: The task's key.
        renderer: The name of the renderer that does the task.
        places: The names of the renderers that do the neighbouring tasks, by task key. A neighbouring task is left out
            if the farm doesn't know its renderer.
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
    """The message with everything that a renderer gets in order to attempt a task.

    Attributes:
        shared: The part of the plan that all tasks of the job get, as JSON.
        inputs: The artifacts that the task needs. `inputs[key][name]` is the artifact called `name` that the task
            `key` made. The images and clips given with the job are under the key "".
        member: The task's place in its lockstep group. None: the task is in no group.
        state: The progress that an earlier attempt saved. This attempt continues from there. None: this attempt
            starts from the beginning.
        notes: The job's notes at the time when this message was made. Each note is a sentence for people.
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
    """Return which job, task and node a message to a renderer is about, for log lines.

    Args:
        sent: The message's bytes.

    Returns:
        The job's id, the task's key and the node's name, under the keys "job", "task" and "node". The mapping is empty
        if the message can't be read.
    """
    try:
        told = read_lazily(Handed, json.loads(sent))
        return {"job": told.job, "task": told.task.key, "node": told.node}
    except ValueError:
        # The renderer that gets it says what is wrong with it.
        return {}


def fingerprint(key: str, kind: str, model: str, weights: str, shared: JobJson, payload: Payload) -> str:
    """Return a hash (SHA-256) of everything that decides a task's result.

    Two tasks with the same hash make the same result.

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
