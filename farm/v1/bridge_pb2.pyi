from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BridgeEvent(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BRIDGE_EVENT_UNSPECIFIED: _ClassVar[BridgeEvent]
    BRIDGE_EVENT_RETURNED: _ClassVar[BridgeEvent]
    BRIDGE_EVENT_RENDERER_DIED: _ClassVar[BridgeEvent]
    BRIDGE_EVENT_UNKNOWN: _ClassVar[BridgeEvent]
    BRIDGE_EVENT_REFUSED: _ClassVar[BridgeEvent]
BRIDGE_EVENT_UNSPECIFIED: BridgeEvent
BRIDGE_EVENT_RETURNED: BridgeEvent
BRIDGE_EVENT_RENDERER_DIED: BridgeEvent
BRIDGE_EVENT_UNKNOWN: BridgeEvent
BRIDGE_EVENT_REFUSED: BridgeEvent

class RendererRef(_message.Message):
    __slots__ = ("node_id", "ray_node_id", "device")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    RAY_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    ray_node_id: str
    device: str
    def __init__(self, node_id: _Optional[str] = ..., ray_node_id: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class StartRendererRequest(_message.Message):
    __slots__ = ("renderer",)
    RENDERER_FIELD_NUMBER: _ClassVar[int]
    renderer: RendererRef
    def __init__(self, renderer: _Optional[_Union[RendererRef, _Mapping]] = ...) -> None: ...

class StartRendererResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DispatchRequest(_message.Message):
    __slots__ = ("renderer", "attempt_id", "epoch", "payload")
    RENDERER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    renderer: RendererRef
    attempt_id: str
    epoch: int
    payload: bytes
    def __init__(self, renderer: _Optional[_Union[RendererRef, _Mapping]] = ..., attempt_id: _Optional[str] = ..., epoch: _Optional[int] = ..., payload: _Optional[bytes] = ...) -> None: ...

class DispatchResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopRendererRequest(_message.Message):
    __slots__ = ("renderer",)
    RENDERER_FIELD_NUMBER: _ClassVar[int]
    renderer: RendererRef
    def __init__(self, renderer: _Optional[_Union[RendererRef, _Mapping]] = ...) -> None: ...

class StopRendererResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchEventsResponse(_message.Message):
    __slots__ = ("renderer", "attempt_id", "epoch", "event", "detail")
    RENDERER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    renderer: RendererRef
    attempt_id: str
    epoch: int
    event: BridgeEvent
    detail: str
    def __init__(self, renderer: _Optional[_Union[RendererRef, _Mapping]] = ..., attempt_id: _Optional[str] = ..., epoch: _Optional[int] = ..., event: _Optional[_Union[BridgeEvent, str]] = ..., detail: _Optional[str] = ...) -> None: ...
