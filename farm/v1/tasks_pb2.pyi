from farm.v1 import jobs_pb2 as _jobs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListTasksRequest(_message.Message):
    __slots__ = ("job_id", "states")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    states: _containers.RepeatedScalarFieldContainer[_jobs_pb2.TaskState]
    def __init__(self, job_id: _Optional[str] = ..., states: _Optional[_Iterable[_Union[_jobs_pb2.TaskState, str]]] = ...) -> None: ...

class ListTasksResponse(_message.Message):
    __slots__ = ("tasks",)
    TASKS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[_jobs_pb2.Task]
    def __init__(self, tasks: _Optional[_Iterable[_Union[_jobs_pb2.Task, _Mapping]]] = ...) -> None: ...

class GetTaskRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class GetTaskResponse(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: _jobs_pb2.Task
    def __init__(self, task: _Optional[_Union[_jobs_pb2.Task, _Mapping]] = ...) -> None: ...

class RetryTaskRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class RetryTaskResponse(_message.Message):
    __slots__ = ("task", "tasks")
    TASK_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    task: _jobs_pb2.Task
    tasks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, task: _Optional[_Union[_jobs_pb2.Task, _Mapping]] = ..., tasks: _Optional[_Iterable[str]] = ...) -> None: ...

class ReadLogRequest(_message.Message):
    __slots__ = ("task", "epoch", "follow")
    TASK_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    task: str
    epoch: int
    follow: bool
    def __init__(self, task: _Optional[str] = ..., epoch: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class ReadLogResponse(_message.Message):
    __slots__ = ("attempt", "chunk", "task_id")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    attempt: _jobs_pb2.Attempt
    chunk: bytes
    task_id: str
    def __init__(self, attempt: _Optional[_Union[_jobs_pb2.Attempt, _Mapping]] = ..., chunk: _Optional[bytes] = ..., task_id: _Optional[str] = ...) -> None: ...
