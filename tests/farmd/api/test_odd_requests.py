"""No value of a request's field makes the daemon fail: each call succeeds, or is refused with a reason."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from farm.client.errors import InvalidSpec
from farm.v1 import artifacts_pb2, jobs_pb2, nodes_pb2, plugins_pb2, tasks_pb2
from farm.wire.channels import bearer, channel
from farm.wire.profile import Profile
from tests.asserting import details_of
from tests.farm.store.store_world import submit

PLANNED = {"SubmitJob", "ListPresets"}
"""Calls that need a planner, which the small daemon lacks. Tests of the spec and of presets send them odd values."""

_INTS = {
    FieldDescriptor.TYPE_INT32: 31,
    FieldDescriptor.TYPE_SINT32: 31,
    FieldDescriptor.TYPE_INT64: 63,
    FieldDescriptor.TYPE_UINT32: 32,
    FieldDescriptor.TYPE_UINT64: 64,
}


def _methods() -> list[MethodDescriptor]:
    files = (artifacts_pb2, jobs_pb2, nodes_pb2, plugins_pb2, tasks_pb2)
    return [
        method
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not method.client_streaming and method.name not in PLANNED
    ]


def _odd(field: FieldDescriptor, names: list[str]) -> list[Any]:
    if field.type == FieldDescriptor.TYPE_STRING:
        return [*names, "", "\x00", "\x1b[2J", "../..", "%", "'", "ü" * 5000]
    if field.type == FieldDescriptor.TYPE_BYTES:
        return [b"", b"\xff"]
    if field.type == FieldDescriptor.TYPE_BOOL:
        return [True, False]
    if field.type == FieldDescriptor.TYPE_ENUM:
        return [0, 1, 99, -1]
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return [0.0, -1.0, 1e300, math.nan, math.inf, -math.inf, 1e-300]
    bits = _INTS[field.type]
    signed = bits in (31, 63)
    return [0, 1, 2**bits - 1, *([-1, -(2**bits)] if signed else [])]


def _requests(of: Descriptor, names: list[str]) -> Iterator[Message]:
    """Yield requests: each value of each field, first alone, then beside a name that the daemon knows."""
    kind = GetMessageClass(of)
    yield kind()
    texts = [one.name for one in of.fields if one.type == FieldDescriptor.TYPE_STRING and not one.is_repeated]
    beside: list[dict[str, str]] = [{}]
    if texts:
        beside += [{texts[0]: name} for name in names]
    for field, fixed in itertools.product(of.fields, beside):
        if field.name in fixed or field.message_type is not None:
            continue
        for value in _odd(field, names):
            request = kind(**fixed)
            if field.is_repeated:
                getattr(request, field.name).append(value)
            else:
                setattr(request, field.name, value)
            yield request


@pytest.mark.parametrize("method", _methods(), ids=lambda method: method.name)
def test_odd_values_are_taken_or_refused_with_a_reason(daemon, node, method):
    job = submit(daemon.store)
    task, _ = daemon.store.jobs.tasks(job.id)[0]
    names = [job.id, f"{job.id}/{task.key}", task.id, daemon.store.nodes.list()[0].name]
    profile = Profile.find(daemon.home / "client.json", {})
    answer = GetMessageClass(method.output_type)
    failed = []
    with channel(daemon.address, profile.ca_pem, "") as opened:
        # On the wire a single answer is a stream of one.
        call: Any = opened.unary_stream(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        for request in _requests(method.input_type, names):
            got = call(request, metadata=bearer(profile.token), timeout=3)
            try:
                next(got, None)
                got.cancel()
            except grpc.RpcError as refused:
                if refused.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
                    failed.append((str(request), details_of(refused)))
    assert not failed


def test_a_state_that_there_is_not_is_refused_with_those_that_there_are(client):
    with pytest.raises(InvalidSpec, match="^states: must be queued, .* or paused, got unspecified$"):
        client.jobs([jobs_pb2.JOB_STATE_UNSPECIFIED])
    with pytest.raises(InvalidSpec, match="^states: must be .*, got 99$"):
        client.tasks("j-1", [99])
