"""Record a farm in the middle of a job, as test data for the versions that come after this one.

    python -m tests.upgrade.record tests/upgrade/VERSION

The folder then holds what README.md beside this file says. The farm is real: a daemon, an agent, a renderer. The agent
reaches the daemon through a tap that notes what both say.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from farm import PROTOCOL, __version__
from farm.v1 import jobs_pb2, nodes_pb2
from farm.wire.channels import CHANNEL_OPTIONS, SERVER_OPTIONS
from farm.wire.security import Authority
from tests.farm_under_test import SHOT, FarmUnderTest, eventually

NODE = "north"
PACE = 1.5
"""Seconds a step, so that a window outlives its daemon's restart."""
FARM_FILES = ("tls", "farm.db", "artifacts", "ray/token", "client.json")
"""Of the farm's home, what a new daemon needs."""
NODE_FILES = ("node.json", "ca.pem", "node.token", "ray.token", "journal.db", "node.toml")
"""Of the node's home, what a new agent needs."""


class Tap(grpc.GenericRpcHandler):
    """Passes every call on to the daemon at `server`, and notes what is said as (method, number of the call, who, bytes).

    Knows no messages: what is noted is what went over the wire. Bytes that a renderer fetches are not noted.
    """

    def __init__(self, authority: Authority, server: str):
        self.notes: list[tuple[str, int, str, bytes]] = []
        self._calls, self._lock = 0, threading.Lock()
        trust = grpc.ssl_channel_credentials(authority.ca_pem)
        self._channel = grpc.secure_channel(server, trust, options=list(CHANNEL_OPTIONS))
        self._server = grpc.server(ThreadPoolExecutor(32), options=list(SERVER_OPTIONS))
        self._server.add_generic_rpc_handlers((self,))
        port = self._server.add_secure_port("127.0.0.1:0", authority.server_credentials())
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def service(self, details: Any) -> grpc.RpcMethodHandler:
        """Whatever is called is a stream of bytes both ways."""

        def forward(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            yield from self._forward(details, requests, context)

        return grpc.stream_stream_rpc_method_handler(forward)

    def _forward(
        self, details: Any, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        with self._lock:
            self._calls += 1
            number = self._calls

        def noted(messages: Iterator[bytes], who: str) -> Iterator[bytes]:
            for message in messages:
                if who == "node" or not details.method.endswith("/Download"):
                    with self._lock:
                        self.notes.append((details.method, number, who, message))
                yield message

        shown = tuple(pair for pair in details.invocation_metadata if pair[0] == "authorization")
        method: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(details.method)
        call = method(noted(requests, "node"), metadata=shown)

        def end() -> None:
            call.cancel()

        context.add_callback(end)
        try:
            yield from noted(call, "daemon")
        except grpc.RpcError as error:
            context.abort(error.code(), error.details() or "")

    def close(self) -> None:
        """Pass on nothing more."""
        self._server.stop(None)
        self._channel.close()


def record(folder: Path) -> None:
    """Run a job of three windows, kill the daemon in the second, keep everything, and note how the agent goes on."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "farm"
        farm = FarmUnderTest(home, PACE)
        try:
            farm.start_daemon()
            daemon_at = farm.listen
            tap = Tap(Authority.open(home), daemon_at)
            farm.listen = tap.address
            farm.start_node(NODE)
            farm.wait_for_renderers(NODE)
            job_id = farm.submit(**SHOT)
            farm.running(job_id, "window", 1)
            eventually("a window is done", lambda: _done(farm, job_id))
            task, attempt = farm.running(job_id, "window", 2)
            farm.kill_daemon()
            killed = len(tap.notes)
            _keep_homes(home, folder / "home.tar.gz")
            farm.listen = daemon_at
            farm.start_daemon()
            farm.succeed(job_id, 240)
            _keep_calls(tap.notes, killed, attempt.id, folder / "calls.jsonl.gz")
            latents: dict[str, Any] = {**farm.latents(job_id)}
            np.savez_compressed(folder / "latents.npz", **latents)
            tap.close()
        finally:
            farm.close()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    about = {"version": __version__, "protocol": PROTOCOL, "commit": commit.stdout.strip(), "node": NODE,
             "job": job_id, "task": task.key, "attempt": attempt.id, "epoch": attempt.epoch}  # fmt: skip
    (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n")


def _done(farm: FarmUnderTest, job_id: str) -> bool:
    return any(
        task.kind == "window" and task.state == jobs_pb2.TASK_STATE_SUCCEEDED for task in farm.tasks(job_id)
    )


def _keep_homes(home: Path, archive: Path) -> None:
    """Both homes as they are at this moment; the databases whole, each in one file."""
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(archive, "w:gz", compresslevel=9) as tar:
        for root, names in ((home, FARM_FILES), (home / "nodes" / NODE, NODE_FILES)):
            for name in names:
                source = root / name
                if source.suffix == ".db":
                    source = Path(scratch) / name
                    with contextlib.closing(sqlite3.connect(root / name)) as old, contextlib.closing(
                        sqlite3.connect(source)
                    ) as copy:  # fmt: skip
                        old.backup(copy)
                        copy.execute("PRAGMA journal_mode=DELETE")
                        copy.execute("VACUUM")
                tar.add(source, arcname=str((root / name).relative_to(home)))


def _keep_calls(notes: list[tuple[str, int, str, bytes]], killed: int, attempt_id: str, file: Path) -> None:
    """How the node joined, and from the daemon's death on all it said until the attempt's end was acknowledged."""
    with gzip.open(file, "wt", compresslevel=9) as lines:
        ended = False
        for index, (method, number, who, message) in enumerate(notes):
            if index < killed and not method.endswith("/Register"):
                continue
            document = {
                "method": method,
                "call": number,
                "who": who,
                "message": base64.b64encode(message).decode(),
            }
            lines.write(json.dumps(document) + "\n")
            if method.endswith("/Connect") and who == "node":
                said = nodes_pb2.ConnectRequest.FromString(message)
                ended = ended or said.completion.attempt.attempt_id == attempt_id
            elif (
                ended
                and method.endswith("/Connect")
                and nodes_pb2.ConnectResponse.FromString(message).HasField("acknowledge")
            ):
                return
    raise AssertionError(f"the end of {attempt_id} was not acknowledged")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    try:
        record(target)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
