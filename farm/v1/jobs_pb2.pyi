from farm.v1 import artifacts_pb2 as _artifacts_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]
    JOB_STATE_PAUSED: _ClassVar[JobState]

class TaskState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_STATE_UNSPECIFIED: _ClassVar[TaskState]
    TASK_STATE_WAITING: _ClassVar[TaskState]
    TASK_STATE_READY: _ClassVar[TaskState]
    TASK_STATE_RUNNING: _ClassVar[TaskState]
    TASK_STATE_SUCCEEDED: _ClassVar[TaskState]
    TASK_STATE_FAILED: _ClassVar[TaskState]
    TASK_STATE_CANCELLED: _ClassVar[TaskState]

class AttemptState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTEMPT_STATE_UNSPECIFIED: _ClassVar[AttemptState]
    ATTEMPT_STATE_DISPATCHED: _ClassVar[AttemptState]
    ATTEMPT_STATE_RUNNING: _ClassVar[AttemptState]
    ATTEMPT_STATE_SUCCEEDED: _ClassVar[AttemptState]
    ATTEMPT_STATE_FAILED: _ClassVar[AttemptState]
    ATTEMPT_STATE_LOST: _ClassVar[AttemptState]
    ATTEMPT_STATE_CANCELLED: _ClassVar[AttemptState]
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_SUCCEEDED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
JOB_STATE_PAUSED: JobState
TASK_STATE_UNSPECIFIED: TaskState
TASK_STATE_WAITING: TaskState
TASK_STATE_READY: TaskState
TASK_STATE_RUNNING: TaskState
TASK_STATE_SUCCEEDED: TaskState
TASK_STATE_FAILED: TaskState
TASK_STATE_CANCELLED: TaskState
ATTEMPT_STATE_UNSPECIFIED: AttemptState
ATTEMPT_STATE_DISPATCHED: AttemptState
ATTEMPT_STATE_RUNNING: AttemptState
ATTEMPT_STATE_SUCCEEDED: AttemptState
ATTEMPT_STATE_FAILED: AttemptState
ATTEMPT_STATE_LOST: AttemptState
ATTEMPT_STATE_CANCELLED: AttemptState

class Media(_message.Message):
    __slots__ = ("artifact_id", "path")
    ARTIFACT_ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    artifact_id: str
    path: str
    def __init__(self, artifact_id: _Optional[str] = ..., path: _Optional[str] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("media", "frame", "strength")
    MEDIA_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    media: Media
    frame: int
    strength: float
    def __init__(self, media: _Optional[_Union[Media, _Mapping]] = ..., frame: _Optional[int] = ..., strength: _Optional[float] = ...) -> None: ...

class TimedPrompt(_message.Message):
    __slots__ = ("frame", "text")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    frame: int
    text: str
    def __init__(self, frame: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("name", "model", "frames", "width", "height", "fps", "prompt", "negative_prompt", "seed", "steps", "guidance_scale", "strategy", "window_latents", "overlap_latents", "conditions", "priority", "output", "later_prompts", "crossfade_frames", "layout", "storyboard_model", "prompt_always", "sampler", "guidance", "options", "preset")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FPS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    WINDOW_LATENTS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_LATENTS_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    LATER_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    CROSSFADE_FRAMES_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    STORYBOARD_MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_ALWAYS_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    frames: int
    width: int
    height: int
    fps: float
    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    guidance_scale: float
    strategy: str
    window_latents: int
    overlap_latents: int
    conditions: _containers.RepeatedCompositeFieldContainer[Condition]
    priority: int
    output: str
    later_prompts: _containers.RepeatedCompositeFieldContainer[TimedPrompt]
    crossfade_frames: int
    layout: str
    storyboard_model: str
    prompt_always: str
    sampler: str
    guidance: str
    options: _struct_pb2.Struct
    preset: str
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., frames: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., fps: _Optional[float] = ..., prompt: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., seed: _Optional[int] = ..., steps: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., strategy: _Optional[str] = ..., window_latents: _Optional[int] = ..., overlap_latents: _Optional[int] = ..., conditions: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ..., priority: _Optional[int] = ..., output: _Optional[str] = ..., later_prompts: _Optional[_Iterable[_Union[TimedPrompt, _Mapping]]] = ..., crossfade_frames: _Optional[int] = ..., layout: _Optional[str] = ..., storyboard_model: _Optional[str] = ..., prompt_always: _Optional[str] = ..., sampler: _Optional[str] = ..., guidance: _Optional[str] = ..., options: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., preset: _Optional[str] = ...) -> None: ...

class SubmitJobRequest(_message.Message):
    __slots__ = ("spec", "idempotency_key", "validate_only")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    spec: JobSpec
    idempotency_key: str
    validate_only: bool
    def __init__(self, spec: _Optional[_Union[JobSpec, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class SubmitJobResponse(_message.Message):
    __slots__ = ("job", "plan", "notes", "existing")
    JOB_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    EXISTING_FIELD_NUMBER: _ClassVar[int]
    job: Job
    plan: PlanSummary
    notes: _containers.RepeatedScalarFieldContainer[str]
    existing: bool
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., plan: _Optional[_Union[PlanSummary, _Mapping]] = ..., notes: _Optional[_Iterable[str]] = ..., existing: _Optional[bool] = ...) -> None: ...

class PlanSummary(_message.Message):
    __slots__ = ("strategy", "model", "weights", "precision", "render_width", "render_height", "render_frames", "latents", "tasks", "fitting_devices", "estimated_seconds", "estimated_bytes", "shown_prompts", "output_suffix", "sampler", "guidance", "passes", "settings")
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    RENDER_WIDTH_FIELD_NUMBER: _ClassVar[int]
    RENDER_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    RENDER_FRAMES_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    FITTING_DEVICES_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHOWN_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SUFFIX_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    PASSES_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    strategy: str
    model: str
    weights: str
    precision: str
    render_width: int
    render_height: int
    render_frames: int
    latents: int
    tasks: _containers.RepeatedCompositeFieldContainer[PlannedTask]
    fitting_devices: _containers.RepeatedScalarFieldContainer[str]
    estimated_seconds: float
    estimated_bytes: int
    shown_prompts: _containers.RepeatedCompositeFieldContainer[ShownPrompts]
    output_suffix: str
    sampler: str
    guidance: str
    passes: int
    settings: JobSettings
    def __init__(self, strategy: _Optional[str] = ..., model: _Optional[str] = ..., weights: _Optional[str] = ..., precision: _Optional[str] = ..., render_width: _Optional[int] = ..., render_height: _Optional[int] = ..., render_frames: _Optional[int] = ..., latents: _Optional[int] = ..., tasks: _Optional[_Iterable[_Union[PlannedTask, _Mapping]]] = ..., fitting_devices: _Optional[_Iterable[str]] = ..., estimated_seconds: _Optional[float] = ..., estimated_bytes: _Optional[int] = ..., shown_prompts: _Optional[_Iterable[_Union[ShownPrompts, _Mapping]]] = ..., output_suffix: _Optional[str] = ..., sampler: _Optional[str] = ..., guidance: _Optional[str] = ..., passes: _Optional[int] = ..., settings: _Optional[_Union[JobSettings, _Mapping]] = ...) -> None: ...

class JobSettings(_message.Message):
    __slots__ = ("preset", "sampler", "guidance", "guidance_scale", "negative_prompt", "options", "schedules")
    PRESET_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULES_FIELD_NUMBER: _ClassVar[int]
    preset: str
    sampler: str
    guidance: str
    guidance_scale: float
    negative_prompt: str
    options: _struct_pb2.Struct
    schedules: _containers.RepeatedCompositeFieldContainer[Schedule]
    def __init__(self, preset: _Optional[str] = ..., sampler: _Optional[str] = ..., guidance: _Optional[str] = ..., guidance_scale: _Optional[float] = ..., negative_prompt: _Optional[str] = ..., options: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., schedules: _Optional[_Iterable[_Union[Schedule, _Mapping]]] = ...) -> None: ...

class Schedule(_message.Message):
    __slots__ = ("kind", "tasks", "noise_levels", "passes")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    NOISE_LEVELS_FIELD_NUMBER: _ClassVar[int]
    PASSES_FIELD_NUMBER: _ClassVar[int]
    kind: str
    tasks: int
    noise_levels: _containers.RepeatedScalarFieldContainer[float]
    passes: int
    def __init__(self, kind: _Optional[str] = ..., tasks: _Optional[int] = ..., noise_levels: _Optional[_Iterable[float]] = ..., passes: _Optional[int] = ...) -> None: ...

class ShownPrompts(_message.Message):
    __slots__ = ("first_frame", "last_frame", "prompts")
    FIRST_FRAME_FIELD_NUMBER: _ClassVar[int]
    LAST_FRAME_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    first_frame: int
    last_frame: int
    prompts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, first_frame: _Optional[int] = ..., last_frame: _Optional[int] = ..., prompts: _Optional[_Iterable[str]] = ...) -> None: ...

class PlannedTask(_message.Message):
    __slots__ = ("key", "kind", "start", "stop", "needs", "flops", "vram_bytes", "steps", "passes")
    KEY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    NEEDS_FIELD_NUMBER: _ClassVar[int]
    FLOPS_FIELD_NUMBER: _ClassVar[int]
    VRAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    PASSES_FIELD_NUMBER: _ClassVar[int]
    key: str
    kind: str
    start: int
    stop: int
    needs: _containers.RepeatedScalarFieldContainer[str]
    flops: float
    vram_bytes: int
    steps: int
    passes: int
    def __init__(self, key: _Optional[str] = ..., kind: _Optional[str] = ..., start: _Optional[int] = ..., stop: _Optional[int] = ..., needs: _Optional[_Iterable[str]] = ..., flops: _Optional[float] = ..., vram_bytes: _Optional[int] = ..., steps: _Optional[int] = ..., passes: _Optional[int] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "state", "spec", "strategy", "weights", "precision", "created_at", "started_at", "finished_at", "error", "notes", "output_artifact_id", "output_bytes", "tasks_total", "tasks_succeeded", "last_event", "stages", "priority", "waiting", "output_suffix")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_ARTIFACT_ID_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    TASKS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    TASKS_SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SUFFIX_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: JobState
    spec: JobSpec
    strategy: str
    weights: str
    precision: str
    created_at: float
    started_at: float
    finished_at: float
    error: str
    notes: _containers.RepeatedScalarFieldContainer[str]
    output_artifact_id: str
    output_bytes: int
    tasks_total: int
    tasks_succeeded: int
    last_event: int
    stages: _containers.RepeatedCompositeFieldContainer[StageProgress]
    priority: int
    waiting: str
    output_suffix: str
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., strategy: _Optional[str] = ..., weights: _Optional[str] = ..., precision: _Optional[str] = ..., created_at: _Optional[float] = ..., started_at: _Optional[float] = ..., finished_at: _Optional[float] = ..., error: _Optional[str] = ..., notes: _Optional[_Iterable[str]] = ..., output_artifact_id: _Optional[str] = ..., output_bytes: _Optional[int] = ..., tasks_total: _Optional[int] = ..., tasks_succeeded: _Optional[int] = ..., last_event: _Optional[int] = ..., stages: _Optional[_Iterable[_Union[StageProgress, _Mapping]]] = ..., priority: _Optional[int] = ..., waiting: _Optional[str] = ..., output_suffix: _Optional[str] = ...) -> None: ...

class StageProgress(_message.Message):
    __slots__ = ("kind", "total", "succeeded", "running", "done", "loading")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    LOADING_FIELD_NUMBER: _ClassVar[int]
    kind: str
    total: int
    succeeded: int
    running: int
    done: float
    loading: _containers.RepeatedCompositeFieldContainer[ModelLoading]
    def __init__(self, kind: _Optional[str] = ..., total: _Optional[int] = ..., succeeded: _Optional[int] = ..., running: _Optional[int] = ..., done: _Optional[float] = ..., loading: _Optional[_Iterable[_Union[ModelLoading, _Mapping]]] = ...) -> None: ...

class ModelLoading(_message.Message):
    __slots__ = ("task", "model", "device")
    TASK_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    task: str
    model: str
    device: str
    def __init__(self, task: _Optional[str] = ..., model: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("id", "key", "kind", "state", "epoch", "start", "stop", "reason", "attempts", "facts", "job_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    key: str
    kind: str
    state: TaskState
    epoch: int
    start: int
    stop: int
    reason: str
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    facts: _struct_pb2.Struct
    job_id: str
    def __init__(self, id: _Optional[str] = ..., key: _Optional[str] = ..., kind: _Optional[str] = ..., state: _Optional[_Union[TaskState, str]] = ..., epoch: _Optional[int] = ..., start: _Optional[int] = ..., stop: _Optional[int] = ..., reason: _Optional[str] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., facts: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., job_id: _Optional[str] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("id", "epoch", "state", "node", "device", "dispatched_at", "started_at", "finished_at", "step", "steps", "error", "cause", "log_artifact_id", "from_step")
    ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DISPATCHED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    LOG_ARTIFACT_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_STEP_FIELD_NUMBER: _ClassVar[int]
    id: str
    epoch: int
    state: AttemptState
    node: str
    device: str
    dispatched_at: float
    started_at: float
    finished_at: float
    step: int
    steps: int
    error: str
    cause: str
    log_artifact_id: str
    from_step: int
    def __init__(self, id: _Optional[str] = ..., epoch: _Optional[int] = ..., state: _Optional[_Union[AttemptState, str]] = ..., node: _Optional[str] = ..., device: _Optional[str] = ..., dispatched_at: _Optional[float] = ..., started_at: _Optional[float] = ..., finished_at: _Optional[float] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., error: _Optional[str] = ..., cause: _Optional[str] = ..., log_artifact_id: _Optional[str] = ..., from_step: _Optional[int] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class GetJobResponse(_message.Message):
    __slots__ = ("job", "tasks", "shown_prompts", "settings")
    JOB_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    SHOWN_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    job: Job
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    shown_prompts: _containers.RepeatedCompositeFieldContainer[ShownPrompts]
    settings: JobSettings
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ..., shown_prompts: _Optional[_Iterable[_Union[ShownPrompts, _Mapping]]] = ..., settings: _Optional[_Union[JobSettings, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("states", "limit", "before")
    STATES_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedScalarFieldContainer[JobState]
    limit: int
    before: str
    def __init__(self, states: _Optional[_Iterable[_Union[JobState, str]]] = ..., limit: _Optional[int] = ..., before: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("job_id", "after_event")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_EVENT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    after_event: int
    def __init__(self, job_id: _Optional[str] = ..., after_event: _Optional[int] = ...) -> None: ...

class WatchJobResponse(_message.Message):
    __slots__ = ("event", "job")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    event: JobEvent
    job: Job
    def __init__(self, event: _Optional[_Union[JobEvent, _Mapping]] = ..., job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class JobEvent(_message.Message):
    __slots__ = ("number", "at", "task", "kind", "message")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    number: int
    at: float
    task: str
    kind: str
    message: str
    def __init__(self, number: _Optional[int] = ..., at: _Optional[float] = ..., task: _Optional[str] = ..., kind: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class PauseJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class PauseJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ResumeJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class ResumeJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class RetryJobRequest(_message.Message):
    __slots__ = ("job_id", "only_failed")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ONLY_FAILED_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    only_failed: bool
    def __init__(self, job_id: _Optional[str] = ..., only_failed: _Optional[bool] = ...) -> None: ...

class RetryJobResponse(_message.Message):
    __slots__ = ("job", "tasks")
    JOB_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    job: Job
    tasks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., tasks: _Optional[_Iterable[str]] = ...) -> None: ...

class PrioritiseJobRequest(_message.Message):
    __slots__ = ("job_id", "priority")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    priority: int
    def __init__(self, job_id: _Optional[str] = ..., priority: _Optional[int] = ...) -> None: ...

class PrioritiseJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ExplainJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class ExplainJobResponse(_message.Message):
    __slots__ = ("summary", "tasks", "devices")
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    summary: str
    tasks: _containers.RepeatedCompositeFieldContainer[WaitingTask]
    devices: _containers.RepeatedCompositeFieldContainer[DeviceFit]
    def __init__(self, summary: _Optional[str] = ..., tasks: _Optional[_Iterable[_Union[WaitingTask, _Mapping]]] = ..., devices: _Optional[_Iterable[_Union[DeviceFit, _Mapping]]] = ...) -> None: ...

class WaitingTask(_message.Message):
    __slots__ = ("key", "state", "reason")
    KEY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    key: str
    state: TaskState
    reason: str
    def __init__(self, key: _Optional[str] = ..., state: _Optional[_Union[TaskState, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class DeviceFit(_message.Message):
    __slots__ = ("device", "fits", "of", "usable", "task", "reason")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    FITS_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    USABLE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    device: str
    fits: int
    of: int
    usable: bool
    task: str
    reason: str
    def __init__(self, device: _Optional[str] = ..., fits: _Optional[int] = ..., of: _Optional[int] = ..., usable: _Optional[bool] = ..., task: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ListOutputsRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class ListOutputsResponse(_message.Message):
    __slots__ = ("job", "outputs")
    JOB_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    job: Job
    outputs: _containers.RepeatedCompositeFieldContainer[Output]
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., outputs: _Optional[_Iterable[_Union[Output, _Mapping]]] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("artifact", "task", "start", "stop")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    artifact: _artifacts_pb2.Artifact
    task: str
    start: int
    stop: int
    def __init__(self, artifact: _Optional[_Union[_artifacts_pb2.Artifact, _Mapping]] = ..., task: _Optional[str] = ..., start: _Optional[int] = ..., stop: _Optional[int] = ...) -> None: ...
