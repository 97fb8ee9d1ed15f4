"""gRPC connections between the farm's parts: options of channels and of the daemon's server, and metadata of calls."""

# The token travels as plain metadata, not as gRPC call credentials. gRPC keeps call credentials in a plugin. When the
# plugin ends, it takes the GIL on one of gRPC's threads, while the thread that closes the last channel has the GIL and
# waits for the plugin. Both then wait for ever (grpc/grpc pull request 42247).

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

import grpc

from farm.wire.security import SERVER_NAME

_MESSAGE_BYTES = 64 * 2**20
_REQUEST = re.compile(r"[A-Za-z0-9_.-]{1,64}")

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own backoff grows to two minutes; after a daemon's return its farm must reconnect within a lease.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A thousand jobs with long prompts are more than the usual 4 MiB.
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    # A farm is on the studio's own network; a web proxy from the environment would only break the connection.
    ("grpc.enable_http_proxy", 0),
)
"""gRPC options of every channel to the farm."""

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Without this the server ends connections whose client pings as CHANNEL_OPTIONS says ("too_many_pings").
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    # Two daemons on one port would each get half of the calls.
    ("grpc.so_reuseport", 0),
)
"""gRPC options of the daemon's server, the counterpart of CHANNEL_OPTIONS."""


def channel(server: str, ca_pem: bytes, token: str = "") -> grpc.Channel:
    """Return a channel to the daemon at `server` (host:port) that trusts only the CA certificate `ca_pem`.

    Every call carries `token`; if it is empty, calls carry no token.
    """
    made = grpc.secure_channel(server, grpc.ssl_channel_credentials(ca_pem), options=list(CHANNEL_OPTIONS))
    return grpc.intercept_channel(made, _Bearer(token)) if token else made


def aio_channel(server: str, ca_pem: bytes) -> grpc.aio.Channel:
    """Return a channel as `channel` does, but for asyncio. Callers pass `bearer(token)` as the metadata of each call."""
    return grpc.aio.secure_channel(
        server, grpc.ssl_channel_credentials(ca_pem), options=list(CHANNEL_OPTIONS)
    )


REQUEST_KEY = "x-request-id"
"""The metadata key of a call's request id. A client that repeats a call keeps the id."""


def request_name(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Return the request id in a call's metadata. If the metadata has no valid id, return a new, random id."""
    for key, value in metadata or ():
        if key == REQUEST_KEY and isinstance(value, str) and _REQUEST.fullmatch(value):
            return value
    return new_request()


def new_request() -> str:
    """Return a new, random request id."""
    return secrets.token_hex(8)


def request_metadata() -> tuple[tuple[str, str], ...]:
    """Return call metadata with a new request id."""
    return ((REQUEST_KEY, new_request()),)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return call metadata that carries `token`."""
    return (("authorization", f"Bearer {token}"),)


def bearer_token(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Return the token in a call's metadata; empty if there is none."""
    for key, value in metadata or ():
        if key == "authorization" and isinstance(value, str) and value.startswith("Bearer "):
            return value.removeprefix("Bearer ")
    return ""


@dataclass(frozen=True)
class _Details(grpc.ClientCallDetails):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Bearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """An interceptor that adds the token to every call of any kind."""

    def __init__(self, token: str) -> None:
        self._metadata = bearer(token)

    def _intercept(self, call: Callable[..., Any], details: Any, request: Any) -> Any:
        said = {field.name: getattr(details, field.name) for field in fields(_Details)}
        said["metadata"] = (*(said["metadata"] or ()), *self._metadata)
        return call(_Details(**said), request)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._intercept(continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._intercept(continuation, client_call_details, request)

    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return self._intercept(continuation, client_call_details, request_iterator)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return self._intercept(continuation, client_call_details, request_iterator)
