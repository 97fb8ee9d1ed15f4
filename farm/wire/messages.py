"""Translation between the store's records and the API's messages, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from google.protobuf import json_format

from farm import records
from farm.plan import JobJson, output_suffix_of, prompts_of
from farm.planning import Plan
from farm.spec import InvalidSpec, JobSpec, parse_spec
from farm.states import JobState, TaskState
from farm.v1 import artifacts_pb2, jobs_pb2, nodes_pb2
from farm.wire.enum_words import value_of, word_of, words

_OPTIONAL = (
    "steps",
    "guidance_scale",
    "window_latents",
    "overlap_latents",
    "priority",
    "crossfade_frames",
    "negative_prompt",
)
_DEFAULT_IF_EMPTY = ("model", "output", "layout")


def spec_from_message(
    message: jobs_pb2.JobSpec, fill: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> JobSpec:
    """Check the job spec in a message, and return it. Raises InvalidSpec.

    Args:
        message: The message.
        fill: A function that gets the message's fields by name. It returns the same fields, with those of the job's
            preset added.
    """
    fields = {
        field.name: getattr(message, field.name)
        for field in jobs_pb2.JobSpec.DESCRIPTOR.fields
        if field.name not in ("conditions", "later_prompts", "options", *_OPTIONAL, *_DEFAULT_IF_EMPTY)
    }
    fields |= {name: getattr(message, name) for name in _OPTIONAL if message.HasField(name)}
    fields |= {name: getattr(message, name) for name in _DEFAULT_IF_EMPTY if getattr(message, name)}
    fields["conditions"] = [
        {
            "media": {"artifact_id": item.media.artifact_id, "path": item.media.path},
            "frame": item.frame,
            "strength": item.strength,
        }
        for item in message.conditions
    ]
    fields["later_prompts"] = [{"frame": item.frame, "text": item.text} for item in message.later_prompts]
    fields["options"] = whole(json_format.MessageToDict(message.options))
    return parse_spec(fill(fields))


def whole(value: Any) -> Any:
    """Return a JSON value in which each whole float, such as 2.0, is replaced by an integer.

    This is needed because a protobuf Struct turns all numbers into floats.
    """
    if isinstance(value, dict):
        return {key: whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def spec_message(spec: JobSpec) -> jobs_pb2.JobSpec:
    """Return a job spec as a message."""
    message = jobs_pb2.JobSpec()
    listed = {"conditions", "later_prompts", "options"}
    for name, value in spec.model_dump(exclude=listed, exclude_none=True).items():
        setattr(message, name, value)
    if spec.options:
        message.options.update(spec.options)
    for prompt in spec.later_prompts:
        message.later_prompts.add(frame=prompt.frame, text=prompt.text)
    for condition in spec.conditions:
        item = message.conditions.add(frame=condition.frame, strength=condition.strength)
        if condition.media.artifact_id:
            item.media.artifact_id = condition.media.artifact_id
        else:
            item.media.path = condition.media.path
    return message


def job_state(state: JobState) -> jobs_pb2.JobState:
    """Return a job's state as the API's enum."""
    return value_of(jobs_pb2.JobState, state)


def job_states(values: Iterable[int]) -> tuple[JobState, ...]:
    """Return job states for values of the API's enum. Raises InvalidSpec for a value that is no state."""
    return tuple(map(JobState, _state_words(jobs_pb2.JobState, values)))


def job_message(job: records.JobRecord, stages: Sequence[records.StageRecord] = ()) -> jobs_pb2.Job:
    """Return a job as a message, with the progress of its stages if `stages` are given."""
    message = jobs_pb2.Job(
        id=job.id,
        state=job_state(job.state),
        spec=spec_message(job.spec),
        strategy=job.strategy,
        weights=job.weights,
        precision=job.precision,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        error=job.error,
        notes=job.notes,
        output_artifact_id=job.output_artifact_id,
        output_bytes=job.output_bytes,
        tasks_total=job.tasks_total,
        tasks_succeeded=job.tasks_succeeded,
        last_event=job.last_event,
        priority=job.priority,
        output_suffix=output_suffix_of(job.shared),
    )
    for stage in stages:
        message.stages.add(
            kind=stage.kind,
            total=stage.total,
            succeeded=stage.succeeded,
            running=stage.running,
            done=stage.done,
        )
    return message


def task_state(state: TaskState) -> jobs_pb2.TaskState:
    """Return a task's state as the API's enum."""
    return value_of(jobs_pb2.TaskState, state)


def task_states(values: Iterable[int]) -> tuple[TaskState, ...]:
    """Return task states for values of the API's enum. Raises InvalidSpec for a value that is no state."""
    return tuple(map(TaskState, _state_words(jobs_pb2.TaskState, values)))


def _state_words(enum: type[int], values: Iterable[int]) -> list[str]:
    known = words(enum)
    found = []
    for value in values:
        try:
            word = word_of(enum, value)
        except ValueError:
            word = str(value)
        if word not in known:
            raise InvalidSpec("states", f"must be {', '.join(known[:-1])} or {known[-1]}, got {word}")
        found.append(word)
    return found


def task_message(
    task: records.TaskRecord,
    attempts: Sequence[records.AttemptRecord],
    reason: str,
    logs: Mapping[str, records.ArtifactRecord],
) -> jobs_pb2.Task:
    """Return a task and its attempts as a message.

    `reason`: why the task doesn't run. `logs`: the stored log of each attempt, by attempt id.
    """
    return jobs_pb2.Task(
        id=task.id,
        key=task.key,
        kind=task.kind,
        state=task_state(task.state),
        epoch=task.epoch,
        start=task.start,
        stop=task.stop,
        reason=reason,
        attempts=[attempt_message(attempt, logs.get(attempt.id)) for attempt in attempts],
        facts=task.facts,
        job_id=task.job_id,
    )


def attempt_message(
    attempt: records.AttemptRecord, log: records.ArtifactRecord | None = None
) -> jobs_pb2.Attempt:
    """Return one attempt as a message, with its stored log if there is one."""
    return jobs_pb2.Attempt(
        id=attempt.id,
        epoch=attempt.epoch,
        state=value_of(jobs_pb2.AttemptState, attempt.state),
        node=attempt.node,
        device=attempt.device,
        dispatched_at=attempt.dispatched_at,
        started_at=attempt.started_at,
        finished_at=attempt.finished_at,
        step=attempt.step,
        steps=attempt.steps,
        error=attempt.error,
        cause=attempt.cause,
        log_artifact_id=log.id if log else "",
        from_step=attempt.from_step,
    )


def event_message(event: records.EventRecord) -> jobs_pb2.JobEvent:
    """Return one stored event as a message."""
    return jobs_pb2.JobEvent(
        number=event.number, at=event.at, task=event.task, kind=event.kind, message=event.message
    )


def shown_prompts(shared: JobJson) -> list[jobs_pb2.ShownPrompts]:
    """Return which prompts a job's delivered frames show, as one message for each range of frames.

    `shared` is the JSON that is stored with the job. The list is empty if an older version of the farm planned the job.
    """
    return [
        jobs_pb2.ShownPrompts(first_frame=first, last_frame=last, prompts=texts)
        for first, last, texts in prompts_of(shared)
    ]


def plan_message(
    plan: Plan, fitting: Sequence[str], seconds: float | None, settings: jobs_pb2.JobSettings | None = None
) -> jobs_pb2.PlanSummary:
    """Return a summary of a plan, for people.

    Args:
        plan: The plan.
        fitting: The names of the devices that could run the plan's largest task.
        seconds: The estimated wall time; None if it can't be estimated.
        settings: The settings with which the job is denoised.
    """
    return jobs_pb2.PlanSummary(
        strategy=plan.strategy,
        model=plan.model,
        weights=plan.weights,
        precision=plan.precision,
        render_width=plan.render_width,
        render_height=plan.render_height,
        render_frames=plan.render_frames,
        latents=plan.latents,
        tasks=[
            jobs_pb2.PlannedTask(
                key=task.key,
                kind=task.kind,
                start=task.start,
                stop=task.stop,
                needs=task.needs,
                flops=task.flops,
                vram_bytes=task.vram_bytes,
                steps=task.steps,
                passes=task.passes,
            )
            for task in plan.tasks
        ],
        fitting_devices=fitting,
        estimated_seconds=seconds,
        estimated_bytes=plan.estimated_bytes,
        shown_prompts=shown_prompts(plan.shared),
        output_suffix=output_suffix_of(plan.shared),
        sampler=plan.sampler,
        guidance=plan.guidance,
        passes=sum(task.passes for task in plan.tasks),
        settings=settings,
    )


_DEVICE_FIELDS = tuple(field.name for field in nodes_pb2.Device.DESCRIPTOR.fields)


def device_record(device: nodes_pb2.Device) -> records.DeviceRecord:
    """Return the device in an agent's message as a record."""
    return records.DeviceRecord(**{name: getattr(device, name) for name in _DEVICE_FIELDS})


def node_message(
    node: records.NodeRecord,
    renderers: frozenset[str],
    trouble: Callable[[str, str], str],
    model_troubles: Mapping[str, str],
    upgrade: str,
    now: float,
) -> nodes_pb2.Node:
    """Return a node as a message.

    Args:
        node: The node's record.
        renderers: The names of the node's devices that have a running renderer.
        trouble: A function that gets a node id and a device name. It returns why the device has no renderer.
        model_troubles: The models that the node should run but can't, each with the reason.
        upgrade: What to do about the node's version; "" if nothing.
        now: The time in seconds of CLOCK_BOOTTIME.
    """
    return nodes_pb2.Node(
        id=node.id,
        name=node.name,
        state=value_of(nodes_pb2.NodeState, node.state),
        version=node.version,
        boot_id=node.boot_id,
        address=node.address,
        last_seen_at=node.last_seen_at,
        devices=[
            nodes_pb2.DeviceStatus(
                device=nodes_pb2.Device(**{name: getattr(device, name) for name in _DEVICE_FIELDS}),
                task=device.task,
                renderer=device.name in renderers,
                speeds=[nodes_pb2.Speed(**speed._asdict()) for speed in device.speeds],
                quarantine=device.quarantine,
                lock=_lock(device.lock),
                trouble=trouble(node.id, device.name),
            )
            for device in node.devices
        ],
        models=[nodes_pb2.ModelOffer(model=offer.model, weights=offer.weights) for offer in node.models],
        model_troubles=model_troubles,
        upgrade=upgrade,
        reason=node.reason,
        drain=_drain(node.drain, now),
        lock=_lock(node.lock),
    )


def _drain(drain: records.DrainRecord | None, now: float) -> nodes_pb2.Drain | None:
    if drain is None:
        return None
    return nodes_pb2.Drain(
        state=value_of(nodes_pb2.DrainState, drain.state),
        reason=drain.reason,
        asked_by=drain.asked_by,
        since_at=drain.since_at,
        left_seconds=None if drain.deadline is None else max(0.0, drain.deadline - now),
    )


def _lock(lock: records.LockRecord | None) -> nodes_pb2.Lock | None:
    if lock is None:
        return None
    return nodes_pb2.Lock(reason=lock.reason, asked_by=lock.asked_by, since_at=lock.since_at)


def artifact_message(artifact: records.ArtifactRecord) -> artifacts_pb2.Artifact:
    """Return an artifact's description as a message."""
    return artifacts_pb2.Artifact(
        id=artifact.id,
        name=artifact.name,
        size=artifact.size,
        sha256=artifact.sha256,
        filename=artifact.filename,
    )


def outcome_name(outcome: nodes_pb2.Outcome) -> str:
    """Return how an attempt ended, in one word for people and logs."""
    return word_of(nodes_pb2.Outcome, outcome)
