"""A real PostgreSQL of the tests' own, on a unix socket only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def binaries() -> Path | None:
    """The folder of initdb and postgres: of the newest version installed, else from PATH."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3])
    )
    on_path = shutil.which("initdb")
    found = installed[-1] if installed else Path(on_path).resolve() if on_path else None
    return found.parent if found and (found.parent / "postgres").exists() else None


class PostgresServer:
    """A server from `folder` of binaries, with data of its own in `place`; stopped and started as a test likes."""

    def __init__(self, folder: Path, place: Path = Path("/tmp")):
        self._folder = folder
        # PostgreSQL refuses root. Sockets' paths must be short.
        account: dict[str, Any] = (
            {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
        )
        self._home = tempfile.mkdtemp(prefix="farm-pg-", dir=place)
        if account:
            shutil.chown(self._home, "nobody", "nogroup")
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": self._home}
        self._common: dict[str, Any] = {"cwd": self._home, "env": environment, **account}
        self._server: subprocess.Popen | None = None
        try:
            self._run("initdb", "-D", f"{self._home}/data", "-U", "farm", "-A", "trust", "-E", "UTF8",
                      "--no-locale", "--no-sync", check=True)  # fmt: skip
        except BaseException:
            self.remove()
            raise

    @property
    def url(self) -> str:
        """URL of its databases with {name} for the database."""
        return f"postgresql+psycopg://farm@/{{name}}?host={self._home}"

    def start(self) -> None:
        """Returns when it answers."""
        deadline = time.monotonic() + 30
        while True:
            with open(f"{self._home}/log", "ab") as log:
                self._server = subprocess.Popen(
                    [
                        self._folder / "postgres",
                        *("-D", f"{self._home}/data", "-k", self._home),
                        *("-c", "listen_addresses="),
                        *("-c", "fsync=off"),
                        *("-c", "shared_buffers=32MB"),
                    ],
                    stdout=log,
                    stderr=log,
                    **self._common,
                )
            while self._run("pg_isready", "-q", "-h", self._home, "-U", "farm").returncode:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start:\n{Path(self._home, 'log').read_text()}")
                time.sleep(0.05)
                if self._server.poll() is not None:
                    break  # after kill -9 what it left must end first
            else:
                return

    def create(self, name: str) -> None:
        """Makes an empty database."""
        self._run("createdb", "-h", self._home, "-U", "farm", name, check=True)

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """SIGINT: in order, though nobody is waited for. SIGQUIT: at once. SIGKILL: as if it had crashed."""
        if self._server and self._server.poll() is None:
            self._server.send_signal(number)
            self._server.wait(30)

    def remove(self) -> None:
        """Stops it and takes its files away."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _run(self, program: str, *arguments: str, check: bool = False) -> subprocess.CompletedProcess:
        return subprocess.run(
            [self._folder / program, *arguments], check=check, capture_output=True, **self._common
        )


def in_memory() -> Path:
    """Where memory is for files, if there is room; else /tmp.

    A database is hundreds of small files, and to copy one takes half a second on some disks.
    """
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < 2 * 2**30:
        return Path("/tmp")
    return memory


@contextmanager
def running(folder: Path) -> Iterator[PostgresServer]:
    """A server that has been started; removed in the end."""
    server = PostgresServer(folder, in_memory())
    try:
        server.start()
        yield server
    finally:
        server.remove()
