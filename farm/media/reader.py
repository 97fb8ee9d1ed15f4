"""Looking at media in processes of their own, for the daemon.

Decoders are large programs in C that read whatever anybody sends: one that crashes, takes all memory or never comes to
an end must cost a job its media and not the farm its daemon. What is looked for is farm.media.clips's business.
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
"""Address space of one process. The largest frame that is accepted takes about a fifth of it."""

SECONDS = 1800.0
"""For one file. 100,000 frames of 1920x1080 take some minutes."""

_KEPT = 2
"""Processes that are kept for the next file: starting one takes a fifth of a second."""


class _Ended(Exception):
    """The process ended, or was ended, without an answer; the message says why."""


class MediaReader:
    """`farm.media.clips.probe` in child processes. Any number of threads may call at once: each has a process of its own.

    `folder`: where the processes work; they make nothing there. `memory_bytes` and `seconds` bound each of them.
    """

    def __init__(self, folder: Path, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS):
        self._folder, self._memory_bytes, self._seconds = folder, memory_bytes, seconds
        self._guard = threading.Lock()
        self._idle: list[subprocess.Popen[bytes]] = []
        self._busy: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def probe(self, path: str | os.PathLike[str], max_frames: int = MAX_FRAMES) -> MediaFacts:
        """As farm.media.clips.probe. Raises MediaError also for a file on which the process crashes, or that takes too long."""
        process = self._take()
        try:
            answer = self._ask(process, {"path": os.fspath(path), "max_frames": max_frames})
        except BaseException as error:
            # It might answer yet, and nobody must take that for the answer about another file.
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
        """End all processes; whoever waits for one is told that it ended."""
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
            raise _Ended(f"that takes longer than {self._seconds:g} s")
        line = out.readline()
        if line.endswith(b"\n"):
            return json.loads(line)
        code = process.wait()
        raise _Ended(
            f"its reader crashed ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
        )


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """A reader's standard input and output."""
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
    """Answer the questions on standard input, a line of JSON each, until it ends with whoever asks."""
    # Ctrl-C in a terminal is for the daemon, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = int(sys.argv[1])
    resource.setrlimit(
        resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    )
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # What a library prints must not be taken for an answer.
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
