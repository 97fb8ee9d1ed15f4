from farm.v1 import nodes_pb2 as _nodes_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttachRequest(_message.Message):
    __slots__ = ("introduction", "begin", "progress", "completion", "in_hand", "loading")
    INTRODUCTION_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    IN_HAND_FIELD_NUMBER: _ClassVar[int]
    LOADING_FIELD_NUMBER: _ClassVar[int]
    introduction: Introduction
    begin: Begin
    progress: _nodes_pb2.Progress
    completion: _nodes_pb2.Completion
    in_hand: InHand
    loading: _nodes_pb2.Loading
    def __init__(self, introduction: _Optional[_Union[Introduction, _Mapping]] = ..., begin: _Optional[_Union[Begin, _Mapping]] = ..., progress: _Optional[_Union[_nodes_pb2.Progress, _Mapping]] = ..., completion: _Optional[_Union[_nodes_pb2.Completion, _Mapping]] = ..., in_hand: _Optional[_Union[InHand, _Mapping]] = ..., loading: _Optional[_Union[_nodes_pb2.Loading, _Mapping]] = ...) -> None: ...

class Introduction(_message.Message):
    __slots__ = ("device", "pid")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    device: str
    pid: int
    def __init__(self, device: _Optional[str] = ..., pid: _Optional[int] = ...) -> None: ...

class Begin(_message.Message):
    __slots__ = ("attempt", "job", "task")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    attempt: _nodes_pb2.AttemptRef
    job: str
    task: str
    def __init__(self, attempt: _Optional[_Union[_nodes_pb2.AttemptRef, _Mapping]] = ..., job: _Optional[str] = ..., task: _Optional[str] = ...) -> None: ...

class InHand(_message.Message):
    __slots__ = ("attempts",)
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    attempts: _containers.RepeatedCompositeFieldContainer[_nodes_pb2.AttemptRef]
    def __init__(self, attempts: _Optional[_Iterable[_Union[_nodes_pb2.AttemptRef, _Mapping]]] = ...) -> None: ...

class AttachResponse(_message.Message):
    __slots__ = ("setup", "lease", "cancel", "journaled")
    SETUP_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    JOURNALED_FIELD_NUMBER: _ClassVar[int]
    setup: Setup
    lease: Lease
    cancel: _nodes_pb2.Cancel
    journaled: Journaled
    def __init__(self, setup: _Optional[_Union[Setup, _Mapping]] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ..., cancel: _Optional[_Union[_nodes_pb2.Cancel, _Mapping]] = ..., journaled: _Optional[_Union[Journaled, _Mapping]] = ...) -> None: ...

class Setup(_message.Message):
    __slots__ = ("threads", "backend", "index", "vram_bytes", "models", "server", "ca_file", "token_file")
    class ModelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    THREADS_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    VRAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    CA_FILE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FILE_FIELD_NUMBER: _ClassVar[int]
    threads: int
    backend: str
    index: int
    vram_bytes: int
    models: _containers.ScalarMap[str, str]
    server: str
    ca_file: str
    token_file: str
    def __init__(self, threads: _Optional[int] = ..., backend: _Optional[str] = ..., index: _Optional[int] = ..., vram_bytes: _Optional[int] = ..., models: _Optional[_Mapping[str, str]] = ..., server: _Optional[str] = ..., ca_file: _Optional[str] = ..., token_file: _Optional[str] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("attempt", "until")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    attempt: _nodes_pb2.AttemptRef
    until: float
    def __init__(self, attempt: _Optional[_Union[_nodes_pb2.AttemptRef, _Mapping]] = ..., until: _Optional[float] = ...) -> None: ...

class Journaled(_message.Message):
    __slots__ = ("attempt",)
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    attempt: _nodes_pb2.AttemptRef
    def __init__(self, attempt: _Optional[_Union[_nodes_pb2.AttemptRef, _Mapping]] = ...) -> None: ...
