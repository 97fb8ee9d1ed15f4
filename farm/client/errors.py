"""The errors of a farm's client, and the translation of gRPC's status codes into them."""

from __future__ import annotations

import re

import grpc

from farm import spec
from farm.outside_text import hidden

BROKEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
"""Status codes with which a stream ends when its daemon goes away. The client may continue from the same place."""


class FarmError(Exception):
    """The farm refused a call, or could not be reached.

    Attributes:
        field: The name of the request's faulty field; empty if the farm named no field.
    """

    def __init__(self, message: str, field: str = "") -> None:
        # Not super(): InvalidSpec below has another base with a signature of its own.
        Exception.__init__(self, hidden(message))
        self.field = field


class NotFound(FarmError):
    """The farm has no such job, task, node or artifact."""


class Damaged(FarmError):
    """An artifact is gone from the farm, or its content has changed."""


class Unreachable(FarmError):
    """The farm doesn't answer."""


class InvalidSpec(FarmError, spec.InvalidSpec):
    """Input that the farm refuses.

    Attributes:
        field: The part at fault, such as "conditions.0.media"; may be empty.
        problem: What is wrong, and what is accepted.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem, field)
        self.problem = problem


_SILENT = ("Endpoint closing", "ping timeout", "keepalive", "deadline")
"""Words in gRPC's details if something accepted the connection, but sent nothing in time."""

_NO_TLS = ("WRONG_VERSION_NUMBER", "TSI_PROTOCOL_FAILURE", "PROTOCOL_ERROR")
"""Words in gRPC's details if something answered that doesn't speak TLS."""

_NAMED = re.compile(r"([a-z_][\w.\[\]-]*): (.+)", re.DOTALL)


def translate(error: grpc.RpcError, server: str, seconds: float = 0.0) -> FarmError:
    """Return the FarmError (or one of its subclasses) that describes a failed call.

    Args:
        error: The error that gRPC raised.
        server: The farm's address, as host:port.
        seconds: Seconds for which the client tried the call; 0 if this isn't known.
    """
    code, details = error.code(), error.details() or ""
    named = _NAMED.fullmatch(details)
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidSpec(named[1], named[2]) if named else InvalidSpec("", details)
        case grpc.StatusCode.NOT_FOUND:
            return NotFound(details, named[1] if named else "")
        case grpc.StatusCode.DATA_LOSS:
            return Damaged(details)
        case grpc.StatusCode.UNAVAILABLE if "CERTIFICATE_VERIFY_FAILED" in details:
            return Unreachable(
                f"the server at {server} is not the farm of this profile: the profile's CA did not sign the "
                "server's certificate. The profile may be from another farm, or from before this farm's home folder was made anew. "
                "On the farm's machine, export a new profile with `farmctl client export FILE`"
            )
        case grpc.StatusCode.UNAVAILABLE if any(words in details for words in _SILENT):
            waited = f" in {seconds:.0f} s" if seconds >= 1 else ""
            return Unreachable(
                f"the farm at {server} did not answer{waited}, although a program listens there. Possible causes: "
                f"farmd hangs, is suspended or is short of memory, or another program uses the port ({details})"
            )
        case grpc.StatusCode.UNAVAILABLE if any(words in details for words in _NO_TLS):
            return Unreachable(
                f"the server at {server} is not a farm: it does not speak TLS as farmd does. Another program may use "
                "the port; check the address"
            )
        case grpc.StatusCode.UNAVAILABLE if named and named[1] == "database":
            return Unreachable(f"the farm at {server} answers, but its database {named[2]}", named[1])
        case grpc.StatusCode.UNAVAILABLE:
            return Unreachable(
                f"no farm answers at {server}. Start a farm on this machine with `farmctl up`. If the farm is on "
                f"another machine, check that farmd runs on that machine and that its port can be reached ({details})"
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unreachable(f"the farm at {server} did not answer in time ({details})")
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return FarmError(f"the farm at {server} does not accept this token: {details}")
        case grpc.StatusCode.UNIMPLEMENTED:
            return FarmError(
                f"this client and the farm at {server} run different versions of the software ({details}); install the "
                "same version on both"
            )
        case _:
            return FarmError(
                details or f"the request to the farm at {server} failed ({code.name})",
                named[1] if named else "",
            )
