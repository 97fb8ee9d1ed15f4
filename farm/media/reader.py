"""Probes clips and images in child processes, for the daemon.

The files may come from anybody, and a file can make a decoder crash, take all memory or never end. If that happens
in a child process, the daemon goes on and only refuses the file. The child process calls farm.media.clips.probe.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

from farm.media.clips import ACCEPTED, MAX_FRAMES, MediaError, MediaFacts, probe
from farm.outside_text import shown
from farm.processes.children import child_environment, python_command

MEMORY_BYTES = 8 << 30
"""Most address space of one process. The largest accepted frame takes about a fifth of it."""

SECONDS = 1800.0
"""Most seconds for one file. 100,000 frames of 1920x1080 take some minutes."""

_KEPT = 2
"""Most idle processes that are kept for the next file: starting a process takes a fifth of a second."""


class _Ended(Exception):
    """The child process ended, or was killed, without an answer. The message says why."""


class MediaReader:
    """Probes clips and images with `farm.media.clips.probe` in child processes.

    Several threads may use the same MediaReader at once.

    Args:
        folder: The working directory of the processes. They write nothing there.
        memory_bytes: The most memory that a process may take, in bytes.
        seconds: The longest time for one file, in seconds.
    """

    def __init__(self, folder: Path, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS):
        self._folder, self._memory_bytes, self._seconds = folder, memory_bytes, seconds
        self._guard = threading.Lock()
        self._idle: list[subprocess.Popen[bytes]] = []
        self._busy: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def probe(self, path: str | os.PathLike[str], max_frames: int = MAX_FRAMES) -> MediaFacts:
        """Return the facts of a clip or image, as farm.media.clips.probe does.

        Args:
            path: The file.
            max_frames: The most frames that the file may have.

        Raises:
            MediaError: The file can't be used, or the process that reads it crashes or takes too long.
        """
        process = self._take()
        try:
            answer = self._ask(process, {"path": os.fspath(path), "max_frames": max_frames})
        except BaseException as error:
            # A late answer must not be taken for the answer about the next file.
            process.kill()
            process.wait()
            if isinstance(error, _Ended):
                raise MediaError(f"{shown(path)}: can't be read: {error}; {ACCEPTED}") from None
            raise
        finally:
            self._give_back(process)
        if "refused" in answer:
            raise MediaError(answer["refused"])
        return MediaFacts(**(answer | {"fps": Fraction(answer["fps"]), "ignored": tuple(answer["ignored"])}))

    def close(self) -> None:
        """End all child processes. Calls of `probe` that are still waiting raise MediaError."""
        with self._guard:
            self._closed = True
            for process in (*self._idle, *self._busy):
                process.kill()
            idle, self._idle = self._idle, []
        for process in idle:
            _end(process)

    def _take(self) -> subprocess.Popen[bytes]:
        with self._guard:
            while self._idle:
                process = self._idle.pop()
                if process.poll() is None:
                    break
                _end(process)
            else:
                process = subprocess.Popen(
                    python_command("farm.media.reader", str(self._memory_bytes)),
                    env=child_environment(),
                    cwd=self._folder,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            self._busy.add(process)
            return process

    def _give_back(self, process: subprocess.Popen[bytes]) -> None:
        with self._guard:
            self._busy.discard(process)
            if process.poll() is None and len(self._idle) < _KEPT and not self._closed:
                self._idle.append(process)
                return
        _end(process)

    def _ask(self, process: subprocess.Popen[bytes], question: dict[str, Any]) -> dict[str, Any]:
        into, out = _pipes(process)
        with contextlib.suppress(BrokenPipeError):
            into.write(json.dumps(question).encode() + b"\n")
            into.flush()
        if not select.select([out], [], [], self._seconds)[0]:
            process.kill()
            process.wait()
            raise _Ended(f"reading the file takes longer than {self._seconds:g} s")
        line = out.readline()
        if line.endswith(b"\n"):
            return json.loads(line)
        code = process.wait()
        raise _Ended(
            f"the reader process crashed ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
        )


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Return the standard input and output of a child process."""
    assert process.stdin and process.stdout  # it was started with both as pipes
    return process.stdin, process.stdout


def _end(process: subprocess.Popen[bytes]) -> None:
    into, out = _pipes(process)
    with contextlib.suppress(OSError):
        into.close()
    out.close()
    process.kill()
    process.wait()


def main() -> None:
    """Probe files in a child process of MediaReader.

    Each line of standard input is a JSON object that names a file. For each file, one JSON object with the result is
    written to standard output. The process ends at the end of its input.
    """
    # Ctrl-C in a terminal is for the daemon, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = int(sys.argv[1])
    resource.setrlimit(
        resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    )
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # A library's own prints must not be taken for answers.
    answers = open(os.dup(1), "w")  # noqa: SIM115
    os.dup2(2, 1)
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = dataclasses.asdict(probe(question["path"], question["max_frames"]))
            answer["fps"] = str(answer["fps"])
        except MediaError as error:
            answer = {"refused": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
