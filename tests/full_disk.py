"""A small disk of a test's own that is full, for a program that is started on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

_OWN = ["unshare", "--mount", "--propagation", "private"]


def run_on_a_full_disk(
    disk: Path, line: str, before: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `line` in a shell once a disk is mounted at `disk`, the shell line `before` is done, and nothing more fits on it.

    `room` is a function of the shell that gives it some room again. Skips the test where no disk can be mounted.
    """
    if os.geteuid() != 0 or subprocess.run([*_OWN, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs root, for a small disk of its own")
    disk.mkdir(exist_ok=True)
    script = f"""
        set -e
        mount -t tmpfs -o size=16m none '{disk}'
        {before or ":"}
        cat /dev/zero > '{disk}/.ballast' 2>/dev/null || true
        room() {{ rm '{disk}/.ballast'; }}
        set +e
        {line}
    """
    return subprocess.run(
        [*_OWN, "/bin/sh", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
