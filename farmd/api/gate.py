"""The gate that every gRPC call to the daemon passes. Only the gate checks tokens and turns errors into status codes.

The gate also writes a line in the log for each call, with the request id that the client has chosen.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message
from grpc import aio

from farm.artifacts import Corrupt, Unwritable
from farm.media.clips import MediaError
from farm.outside_text import shown_lines
from farm.planning import PlanFailed
from farm.spec import InvalidSpec
from farm.store import errors as store_errors
from farm.wire.channels import bearer_token, request_name
from farm.wire.security import Authority, Denied, Identity

log = structlog.get_logger()

Context = aio.ServicerContext[Any, Any]
"""What gRPC knows of a call. The types of its messages stand at the method's request and answer."""

caller: contextvars.ContextVar[Identity | None] = contextvars.ContextVar("caller", default=None)
"""Whose call is being served; None for the open ones."""

_MOST_OF_A_MESSAGE = 2000

_OPEN = ("/farm.v1.NodeService/Register", "/grpc.health.v1.Health/")
_FOR_NODES = ("/farm.v1.NodeService/Connect", "/farm.v1.ArtifactService/")
_READS = ("Get", "List", "Watch", "Read", "Explain", "Download", "Check")
"""Calls whose names begin so change nothing."""
_NOT_FOR_CLIENTS = ("/farm.v1.NodeService/Connect",)


class Refused(Exception):
    """The daemon refuses a call. The caller gets the status `code` and this exception's message."""

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code


def status_of(error: BaseException) -> tuple[grpc.StatusCode, str]:
    """Return the status code and the message that the caller gets for `error`."""
    codes: list[tuple[type[BaseException] | tuple[type[BaseException], ...], grpc.StatusCode]] = [
        (InvalidSpec, grpc.StatusCode.INVALID_ARGUMENT),
        (MediaError, grpc.StatusCode.INVALID_ARGUMENT),
        (store_errors.NotFound, grpc.StatusCode.NOT_FOUND),
        (store_errors.KeyReused, grpc.StatusCode.ALREADY_EXISTS),
        ((store_errors.JobFinished, store_errors.StaleAttempt), grpc.StatusCode.FAILED_PRECONDITION),
        (store_errors.NodeInUse, grpc.StatusCode.FAILED_PRECONDITION),
        (store_errors.Ambiguous, grpc.StatusCode.INVALID_ARGUMENT),
        (Corrupt, grpc.StatusCode.DATA_LOSS),
        (Unwritable, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ((store_errors.DatabaseAway, store_errors.Deposed), grpc.StatusCode.UNAVAILABLE),
    ]
    if isinstance(error, Refused):
        return error.code, str(error)
    if isinstance(error, PlanFailed):
        return grpc.StatusCode.INTERNAL, str(error)
    for kinds, code in codes:
        if isinstance(error, kinds):
            return code, str(error)
    return grpc.StatusCode.INTERNAL, "the daemon failed; its log says why"


def refuse_nul(message: Message, within: str = "") -> None:
    """Refuse a message that has a NUL character in a text, because PostgreSQL can't store it.

    Args:
        message: The request, or a message inside it.
        within: The path of `message` inside the request, such as "spec.". The error's field begins with it.

    Raises:
        InvalidSpec: A text has a NUL character.
    """
    for field, value in message.ListFields():
        place = f"{within}{field.name}"
        if isinstance(value, Message):
            refuse_nul(value, f"{place}.")
        elif isinstance(value, str):
            _refuse_nul_in(value, place)
        elif isinstance(value, Mapping):
            for key, one in value.items():
                _refuse_nul_in(key, place)
                _refuse_nul_in(one, f"{place}.{key}")
        elif isinstance(value, Sequence) and not isinstance(value, bytes):
            for number, one in enumerate(value):
                if isinstance(one, Message):
                    refuse_nul(one, f"{place}.{number}.")
                _refuse_nul_in(one, f"{place}.{number}")


def _refuse_nul_in(value: object, place: str) -> None:
    if isinstance(value, str) and "\x00" in value:
        raise InvalidSpec(
            place.removeprefix("spec."),
            f"must not contain NUL characters, but has one at position {value.index(chr(0)) + 1}",
        )


def _may_call(identity: Identity | None, method: str) -> str | None:
    """Return why `identity` may not call `method`; None if it may."""
    if method.startswith(_OPEN):
        return None
    if identity is None:
        return "a valid token is needed; `farmctl` finds it in client.json, nodes get theirs when they join"
    if identity.kind == "node" and not method.startswith(_FOR_NODES):
        return "a node's token is not good for this call"
    if identity.kind == "client" and method.startswith(_NOT_FOR_CLIENTS):
        return "a client's token is not good for this call"
    return None


class Gate(aio.ServerInterceptor):
    """Lets only permitted calls through, and turns errors into status codes."""

    def __init__(self, authority: Authority):
        self._authority = authority

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method, metadata = handler_call_details.method, handler_call_details.invocation_metadata
        identity = self._identity(bearer_token(metadata))
        call = _Call(method, identity, _may_call(identity, method), request_name(metadata))
        if handler.response_streaming:
            kind = "stream_stream" if handler.request_streaming else "unary_stream"
            wrapped: Any = _streaming(getattr(handler, kind), call)
        else:
            kind = "stream_unary" if handler.request_streaming else "unary_unary"
            wrapped = _answering(getattr(handler, kind), call)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

    def _identity(self, token: str) -> Identity | None:
        try:
            return self._authority.verify(token) if token else None
        except Denied:
            return None


@dataclass(frozen=True)
class _Call:
    """A call at the gate. `problem`: why it may not pass, or None; `request`: the id that its client gave it."""

    method: str
    identity: Identity | None
    problem: str | None
    request: str

    @property
    def by_client(self) -> bool:
        return self.identity is not None and self.identity.kind == "client"

    def tell(self, peer: str, status: str, seconds: float) -> None:
        """Log the call: at level info if it may change something or is refused, else at level debug."""
        name = self.method.rpartition("/")[2]
        tell = log.info if self.problem or (self.by_client and not name.startswith(_READS)) else log.debug
        by = self.identity.kind if self.identity else "nobody"
        tell("call", method=name, by=by, peer=peer, status=status, seconds=round(seconds, 3))


@contextlib.asynccontextmanager
async def _passing(call: _Call, request: Any, context: Context) -> AsyncIterator[None]:
    """Check a call, let its body serve it, and turn an error of the body into a status code."""
    began, status = time.monotonic(), grpc.StatusCode.OK
    # Asked now. When a dropped stream ends, gRPC has freed the call; asking for the peer then crashes the process.
    peer = context.peer()
    if call.by_client:
        structlog.contextvars.bind_contextvars(request=call.request)
    caller.set(call.identity)
    try:
        if call.problem:
            status = grpc.StatusCode.UNAUTHENTICATED
            await context.abort(status, call.problem)
        # A request that comes as a stream is a node's word, which is stored with replacements.
        if isinstance(request, Message):
            refuse_nul(request)
        yield
    except aio.AbortError:
        raise
    except (asyncio.CancelledError, GeneratorExit):
        # Either way the client has gone; a stream that is dropped is ended when Python collects it.
        status = grpc.StatusCode.CANCELLED
        raise
    except Exception as error:
        status, message = status_of(error)
        if status is grpc.StatusCode.INTERNAL:
            log.exception("call failed", method=call.method)
            message += f" (request {call.request})"
        # It goes out as a header: 8 KB at most, and no half characters.
        await context.abort(status, shown_lines(message, _MOST_OF_A_MESSAGE))
    finally:
        call.tell(peer, status.name, time.monotonic() - began)


def _answering(serve: Callable[..., Any], call: _Call) -> Callable[..., Any]:
    async def answer(request: Any, context: Context) -> Any:
        async with _passing(call, request, context):
            return await serve(request, context)

    return answer


def _streaming(serve: Callable[..., Any], call: _Call) -> Callable[..., Any]:
    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        async with _passing(call, request, context):
            async for response in serve(request, context):
                yield response

    return stream
