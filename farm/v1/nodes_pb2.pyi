from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_SUCCEEDED: _ClassVar[Outcome]
    OUTCOME_FAILED: _ClassVar[Outcome]
    OUTCOME_CANCELLED: _ClassVar[Outcome]
    OUTCOME_LOST: _ClassVar[Outcome]
    OUTCOME_OUT_OF_MEMORY: _ClassVar[Outcome]
    OUTCOME_STORAGE: _ClassVar[Outcome]
    OUTCOME_DAMAGED_INPUT: _ClassVar[Outcome]
    OUTCOME_STOPPED: _ClassVar[Outcome]

class DrainState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DRAIN_STATE_UNSPECIFIED: _ClassVar[DrainState]
    DRAIN_STATE_DRAINING: _ClassVar[DrainState]
    DRAIN_STATE_DRAINED: _ClassVar[DrainState]

class NodeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_STATE_UNSPECIFIED: _ClassVar[NodeState]
    NODE_STATE_ONLINE: _ClassVar[NodeState]
    NODE_STATE_OFFLINE: _ClassVar[NodeState]
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_SUCCEEDED: Outcome
OUTCOME_FAILED: Outcome
OUTCOME_CANCELLED: Outcome
OUTCOME_LOST: Outcome
OUTCOME_OUT_OF_MEMORY: Outcome
OUTCOME_STORAGE: Outcome
OUTCOME_DAMAGED_INPUT: Outcome
OUTCOME_STOPPED: Outcome
DRAIN_STATE_UNSPECIFIED: DrainState
DRAIN_STATE_DRAINING: DrainState
DRAIN_STATE_DRAINED: DrainState
NODE_STATE_UNSPECIFIED: NodeState
NODE_STATE_ONLINE: NodeState
NODE_STATE_OFFLINE: NodeState

class Device(_message.Message):
    __slots__ = ("name", "backend", "model", "vram_bytes", "compute_capability", "fp8", "driver", "declared", "flops_per_second", "threads")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VRAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    FP8_FIELD_NUMBER: _ClassVar[int]
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    DECLARED_FIELD_NUMBER: _ClassVar[int]
    FLOPS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    name: str
    backend: str
    model: str
    vram_bytes: int
    compute_capability: str
    fp8: bool
    driver: str
    declared: bool
    flops_per_second: float
    threads: int
    def __init__(self, name: _Optional[str] = ..., backend: _Optional[str] = ..., model: _Optional[str] = ..., vram_bytes: _Optional[int] = ..., compute_capability: _Optional[str] = ..., fp8: _Optional[bool] = ..., driver: _Optional[str] = ..., declared: _Optional[bool] = ..., flops_per_second: _Optional[float] = ..., threads: _Optional[int] = ...) -> None: ...

class ModelOffer(_message.Message):
    __slots__ = ("model", "weights")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    model: str
    weights: str
    def __init__(self, model: _Optional[str] = ..., weights: _Optional[str] = ...) -> None: ...

class RegisterRequest(_message.Message):
    __slots__ = ("join_secret", "node_id", "name", "version", "protocol")
    JOIN_SECRET_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    join_secret: str
    node_id: str
    name: str
    version: str
    protocol: int
    def __init__(self, join_secret: _Optional[str] = ..., node_id: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., protocol: _Optional[int] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("node_token", "ray_token", "farm")
    NODE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RAY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FARM_FIELD_NUMBER: _ClassVar[int]
    node_token: str
    ray_token: str
    farm: str
    def __init__(self, node_token: _Optional[str] = ..., ray_token: _Optional[str] = ..., farm: _Optional[str] = ...) -> None: ...

class ConnectRequest(_message.Message):
    __slots__ = ("hello", "heartbeat", "progress", "completion", "renderer", "log")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    RENDERER_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    progress: Progress
    completion: Completion
    renderer: RendererReport
    log: AttemptLogPart
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., completion: _Optional[_Union[Completion, _Mapping]] = ..., renderer: _Optional[_Union[RendererReport, _Mapping]] = ..., log: _Optional[_Union[AttemptLogPart, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("node_id", "name", "version", "protocol", "boot_id", "devices", "models", "ray_node_id", "attempts", "ray_version", "python_version", "leaving", "owner_reason")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    RAY_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    RAY_VERSION_FIELD_NUMBER: _ClassVar[int]
    PYTHON_VERSION_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    OWNER_REASON_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    name: str
    version: str
    protocol: int
    boot_id: str
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    models: _containers.RepeatedCompositeFieldContainer[ModelOffer]
    ray_node_id: str
    attempts: _containers.RepeatedCompositeFieldContainer[AttemptRef]
    ray_version: str
    python_version: str
    leaving: bool
    owner_reason: str
    def __init__(self, node_id: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., protocol: _Optional[int] = ..., boot_id: _Optional[str] = ..., devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., models: _Optional[_Iterable[_Union[ModelOffer, _Mapping]]] = ..., ray_node_id: _Optional[str] = ..., attempts: _Optional[_Iterable[_Union[AttemptRef, _Mapping]]] = ..., ray_version: _Optional[str] = ..., python_version: _Optional[str] = ..., leaving: _Optional[bool] = ..., owner_reason: _Optional[str] = ...) -> None: ...

class AttemptRef(_message.Message):
    __slots__ = ("attempt_id", "epoch")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    epoch: int
    def __init__(self, attempt_id: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("sequence", "attempts", "ray_node_id", "leaving", "left", "owner_reason", "ray_trouble", "model_troubles", "loading")
    class ModelTroublesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    RAY_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    OWNER_REASON_FIELD_NUMBER: _ClassVar[int]
    RAY_TROUBLE_FIELD_NUMBER: _ClassVar[int]
    MODEL_TROUBLES_FIELD_NUMBER: _ClassVar[int]
    LOADING_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    attempts: _containers.RepeatedCompositeFieldContainer[AttemptRef]
    ray_node_id: str
    leaving: bool
    left: bool
    owner_reason: str
    ray_trouble: str
    model_troubles: _containers.ScalarMap[str, str]
    loading: _containers.RepeatedCompositeFieldContainer[Loading]
    def __init__(self, sequence: _Optional[int] = ..., attempts: _Optional[_Iterable[_Union[AttemptRef, _Mapping]]] = ..., ray_node_id: _Optional[str] = ..., leaving: _Optional[bool] = ..., left: _Optional[bool] = ..., owner_reason: _Optional[str] = ..., ray_trouble: _Optional[str] = ..., model_troubles: _Optional[_Mapping[str, str]] = ..., loading: _Optional[_Iterable[_Union[Loading, _Mapping]]] = ...) -> None: ...

class Loading(_message.Message):
    __slots__ = ("attempt", "model")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    attempt: AttemptRef
    model: str
    def __init__(self, attempt: _Optional[_Union[AttemptRef, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("attempt", "step", "steps", "from_step")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    FROM_STEP_FIELD_NUMBER: _ClassVar[int]
    attempt: AttemptRef
    step: int
    steps: int
    from_step: int
    def __init__(self, attempt: _Optional[_Union[AttemptRef, _Mapping]] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., from_step: _Optional[int] = ...) -> None: ...

class Completion(_message.Message):
    __slots__ = ("journal_number", "attempt", "outcome", "artifact_ids", "error", "seconds", "facts", "working_seconds", "damaged_artifact_ids")
    JOURNAL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_IDS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    WORKING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_ARTIFACT_IDS_FIELD_NUMBER: _ClassVar[int]
    journal_number: int
    attempt: AttemptRef
    outcome: Outcome
    artifact_ids: _containers.RepeatedScalarFieldContainer[str]
    error: str
    seconds: float
    facts: _struct_pb2.Struct
    working_seconds: float
    damaged_artifact_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, journal_number: _Optional[int] = ..., attempt: _Optional[_Union[AttemptRef, _Mapping]] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., artifact_ids: _Optional[_Iterable[str]] = ..., error: _Optional[str] = ..., seconds: _Optional[float] = ..., facts: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., working_seconds: _Optional[float] = ..., damaged_artifact_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class RendererReport(_message.Message):
    __slots__ = ("device", "alive", "reason")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    device: str
    alive: bool
    reason: str
    def __init__(self, device: _Optional[str] = ..., alive: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class ConnectResponse(_message.Message):
    __slots__ = ("welcome", "grant", "acknowledge", "cancel", "read_log", "set_membership", "renew_raylet")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    READ_LOG_FIELD_NUMBER: _ClassVar[int]
    SET_MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    RENEW_RAYLET_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    grant: Grant
    acknowledge: Acknowledge
    cancel: Cancel
    read_log: ReadAttemptLog
    set_membership: SetMembership
    renew_raylet: RenewRaylet
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., grant: _Optional[_Union[Grant, _Mapping]] = ..., acknowledge: _Optional[_Union[Acknowledge, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., read_log: _Optional[_Union[ReadAttemptLog, _Mapping]] = ..., set_membership: _Optional[_Union[SetMembership, _Mapping]] = ..., renew_raylet: _Optional[_Union[RenewRaylet, _Mapping]] = ...) -> None: ...

class RenewRaylet(_message.Message):
    __slots__ = ("ray_node_id", "reason")
    RAY_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ray_node_id: str
    reason: str
    def __init__(self, ray_node_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ReadAttemptLog(_message.Message):
    __slots__ = ("number", "attempt", "offset")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    number: int
    attempt: AttemptRef
    offset: int
    def __init__(self, number: _Optional[int] = ..., attempt: _Optional[_Union[AttemptRef, _Mapping]] = ..., offset: _Optional[int] = ...) -> None: ...

class AttemptLogPart(_message.Message):
    __slots__ = ("number", "known", "data")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    number: int
    known: bool
    data: bytes
    def __init__(self, number: _Optional[int] = ..., known: _Optional[bool] = ..., data: _Optional[bytes] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("version", "ray_address", "heartbeat_seconds", "lease_seconds", "leave", "ray_token", "upgrade")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RAY_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    RAY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    UPGRADE_FIELD_NUMBER: _ClassVar[int]
    version: str
    ray_address: str
    heartbeat_seconds: float
    lease_seconds: float
    leave: bool
    ray_token: str
    upgrade: str
    def __init__(self, version: _Optional[str] = ..., ray_address: _Optional[str] = ..., heartbeat_seconds: _Optional[float] = ..., lease_seconds: _Optional[float] = ..., leave: _Optional[bool] = ..., ray_token: _Optional[str] = ..., upgrade: _Optional[str] = ...) -> None: ...

class SetMembership(_message.Message):
    __slots__ = ("leave",)
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    leave: bool
    def __init__(self, leave: _Optional[bool] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("sequence", "attempts")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    attempts: _containers.RepeatedCompositeFieldContainer[AttemptRef]
    def __init__(self, sequence: _Optional[int] = ..., attempts: _Optional[_Iterable[_Union[AttemptRef, _Mapping]]] = ...) -> None: ...

class Acknowledge(_message.Message):
    __slots__ = ("journal_number", "committed")
    JOURNAL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    journal_number: int
    committed: bool
    def __init__(self, journal_number: _Optional[int] = ..., committed: _Optional[bool] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("attempt", "reason", "grace_seconds", "keep_state")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    GRACE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    KEEP_STATE_FIELD_NUMBER: _ClassVar[int]
    attempt: AttemptRef
    reason: str
    grace_seconds: float
    keep_state: bool
    def __init__(self, attempt: _Optional[_Union[AttemptRef, _Mapping]] = ..., reason: _Optional[str] = ..., grace_seconds: _Optional[float] = ..., keep_state: _Optional[bool] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("state", "reason", "asked_by", "since_at", "left_seconds")
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ASKED_BY_FIELD_NUMBER: _ClassVar[int]
    SINCE_AT_FIELD_NUMBER: _ClassVar[int]
    LEFT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    state: DrainState
    reason: str
    asked_by: str
    since_at: float
    left_seconds: float
    def __init__(self, state: _Optional[_Union[DrainState, str]] = ..., reason: _Optional[str] = ..., asked_by: _Optional[str] = ..., since_at: _Optional[float] = ..., left_seconds: _Optional[float] = ...) -> None: ...

class Lock(_message.Message):
    __slots__ = ("reason", "asked_by", "since_at")
    REASON_FIELD_NUMBER: _ClassVar[int]
    ASKED_BY_FIELD_NUMBER: _ClassVar[int]
    SINCE_AT_FIELD_NUMBER: _ClassVar[int]
    reason: str
    asked_by: str
    since_at: float
    def __init__(self, reason: _Optional[str] = ..., asked_by: _Optional[str] = ..., since_at: _Optional[float] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("id", "name", "state", "version", "boot_id", "address", "last_seen_at", "devices", "models", "reason", "drain", "lock", "model_troubles", "upgrade")
    class ModelTroublesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_AT_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    MODEL_TROUBLES_FIELD_NUMBER: _ClassVar[int]
    UPGRADE_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    state: NodeState
    version: str
    boot_id: str
    address: str
    last_seen_at: float
    devices: _containers.RepeatedCompositeFieldContainer[DeviceStatus]
    models: _containers.RepeatedCompositeFieldContainer[ModelOffer]
    reason: str
    drain: Drain
    lock: Lock
    model_troubles: _containers.ScalarMap[str, str]
    upgrade: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[_Union[NodeState, str]] = ..., version: _Optional[str] = ..., boot_id: _Optional[str] = ..., address: _Optional[str] = ..., last_seen_at: _Optional[float] = ..., devices: _Optional[_Iterable[_Union[DeviceStatus, _Mapping]]] = ..., models: _Optional[_Iterable[_Union[ModelOffer, _Mapping]]] = ..., reason: _Optional[str] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., lock: _Optional[_Union[Lock, _Mapping]] = ..., model_troubles: _Optional[_Mapping[str, str]] = ..., upgrade: _Optional[str] = ...) -> None: ...

class DeviceStatus(_message.Message):
    __slots__ = ("device", "task", "renderer", "speeds", "quarantine", "lock", "trouble")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    RENDERER_FIELD_NUMBER: _ClassVar[int]
    SPEEDS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINE_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    device: Device
    task: str
    renderer: bool
    speeds: _containers.RepeatedCompositeFieldContainer[Speed]
    quarantine: str
    lock: Lock
    trouble: str
    def __init__(self, device: _Optional[_Union[Device, _Mapping]] = ..., task: _Optional[str] = ..., renderer: _Optional[bool] = ..., speeds: _Optional[_Iterable[_Union[Speed, _Mapping]]] = ..., quarantine: _Optional[str] = ..., lock: _Optional[_Union[Lock, _Mapping]] = ..., trouble: _Optional[str] = ...) -> None: ...

class Speed(_message.Message):
    __slots__ = ("model", "flops_per_second", "windows")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FLOPS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    model: str
    flops_per_second: float
    windows: int
    def __init__(self, model: _Optional[str] = ..., flops_per_second: _Optional[float] = ..., windows: _Optional[int] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ...) -> None: ...

class GetNodeRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class GetNodeResponse(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: Node
    def __init__(self, node: _Optional[_Union[Node, _Mapping]] = ...) -> None: ...

class DrainNodeRequest(_message.Message):
    __slots__ = ("node", "deadline_seconds", "reason", "asked_by")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ASKED_BY_FIELD_NUMBER: _ClassVar[int]
    node: str
    deadline_seconds: float
    reason: str
    asked_by: str
    def __init__(self, node: _Optional[str] = ..., deadline_seconds: _Optional[float] = ..., reason: _Optional[str] = ..., asked_by: _Optional[str] = ...) -> None: ...

class DrainNodeResponse(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: Node
    def __init__(self, node: _Optional[_Union[Node, _Mapping]] = ...) -> None: ...

class ResumeNodeRequest(_message.Message):
    __slots__ = ("node", "device")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    node: str
    device: str
    def __init__(self, node: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class ResumeNodeResponse(_message.Message):
    __slots__ = ("node", "devices", "drained")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    DRAINED_FIELD_NUMBER: _ClassVar[int]
    node: Node
    devices: _containers.RepeatedScalarFieldContainer[str]
    drained: bool
    def __init__(self, node: _Optional[_Union[Node, _Mapping]] = ..., devices: _Optional[_Iterable[str]] = ..., drained: _Optional[bool] = ...) -> None: ...

class LockNodeRequest(_message.Message):
    __slots__ = ("node", "device", "reason", "asked_by")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ASKED_BY_FIELD_NUMBER: _ClassVar[int]
    node: str
    device: str
    reason: str
    asked_by: str
    def __init__(self, node: _Optional[str] = ..., device: _Optional[str] = ..., reason: _Optional[str] = ..., asked_by: _Optional[str] = ...) -> None: ...

class LockNodeResponse(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: Node
    def __init__(self, node: _Optional[_Union[Node, _Mapping]] = ...) -> None: ...

class UnlockNodeRequest(_message.Message):
    __slots__ = ("node", "device")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    node: str
    device: str
    def __init__(self, node: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class UnlockNodeResponse(_message.Message):
    __slots__ = ("node", "unlocked")
    NODE_FIELD_NUMBER: _ClassVar[int]
    UNLOCKED_FIELD_NUMBER: _ClassVar[int]
    node: Node
    unlocked: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node: _Optional[_Union[Node, _Mapping]] = ..., unlocked: _Optional[_Iterable[str]] = ...) -> None: ...

class ForgetNodeRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class ForgetNodeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetJoinTokenRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetJoinTokenResponse(_message.Message):
    __slots__ = ("join_token", "servers", "others")
    JOIN_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    join_token: str
    servers: _containers.RepeatedScalarFieldContainer[str]
    others: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, join_token: _Optional[str] = ..., servers: _Optional[_Iterable[str]] = ..., others: _Optional[_Iterable[str]] = ...) -> None: ...
