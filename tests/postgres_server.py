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


def binaries() -> Path | None:
    """The folder of initdb and postgres: of the newest version installed, else from PATH."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3])
    )
    on_path = shutil.which("initdb")
    found = installed[-1] if installed else Path(on_path).resolve() if on_path else None
    return found.parent if found and (found.parent / "postgres").exists() else None


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Start a server from `folder` of binaries; gives the start of its databases' URLs, and stops it."""
    # PostgreSQL refuses root. Sockets' paths must be short.
    account = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    home = tempfile.mkdtemp(prefix="farm-pg-", dir="/tmp")
    if account:
        shutil.chown(home, "nobody", "nogroup")
    common = {"cwd": home, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": home}, **account}
    data = f"{home}/data"
    try:
        subprocess.run(
            [
                folder / "initdb",
                "-D",
                data,
                "-U",
                "farm",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-locale",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            **common,
        )
        with open(f"{home}/log", "wb") as log:
            server = subprocess.Popen(
                [
                    folder / "postgres",
                    *("-D", data, "-k", home),
                    *("-c", "listen_addresses="),
                    *("-c", "fsync=off"),
                    *("-c", "shared_buffers=32MB"),
                ],
                stdout=log,
                stderr=log,
                **common,
            )
        try:
            deadline = time.monotonic() + 30
            while subprocess.run(
                [folder / "pg_isready", "-q", "-h", home, "-U", "farm"], check=False, **common
            ).returncode:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start:\n{Path(home, 'log').read_text()}")
                time.sleep(0.05)
            yield f"postgresql+psycopg://farm@/{{name}}?host={home}"
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: nobody wants its files
            server.wait(30)
    finally:
        shutil.rmtree(home, ignore_errors=True)
