"""A machine within the machine for benchmarks/faults.py: processes, mounts, shared memory and network of its own.

What the bench breaks here (links, mounts) breaks for nobody else, and the kernel ends all of it with the bench.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_INSIDE = "FAULT_BENCH_INSIDE"
_NAMESPACES = ("--net", "--mount", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child")
# Process 1 is bash, because that clears away the zombies of those whose parents are gone. What is needed of /tmp stays.
_INIT = """
set -e
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /mnt
IFS=:
for folder in $0; do mkdir -p "/mnt/${folder#/tmp/}"; mount --bind "$folder" "/mnt/${folder#/tmp/}"; done
mount --move /mnt /tmp
ip link set lo up
ip link add farm up type bridge
ip address add 10.77.0.1/24 dev farm
set +e
"$@"
"""
DAEMON = "10.77.0.1"


def why_not() -> str:
    """Why there can be no machine of its own; empty where there can."""
    missing = [name for name in ("ip", "unshare", "nsenter", "mount") if not shutil.which(name)]
    if missing:
        return f"no {', '.join(missing)} here (Debian's iproute2 and util-linux)"
    made = subprocess.run(["unshare", *_NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return made.stderr.strip()


def inside() -> bool:
    """Whether this is the machine within."""
    return _INSIDE in os.environ


def enter(*kept: Path) -> None:
    """Runs this program again, inside; returns only there. Folders `kept` stay in sight where they lie under /tmp."""
    if inside():
        return
    folders = {*kept, Path(__file__).parents[1], Path(sys.prefix), Path(sys.base_prefix)}
    visible = ":".join(str(folder) for folder in sorted(folders) if folder.is_relative_to("/tmp"))
    command = ["unshare", *_NAMESPACES, "bash", "-c", _INIT, visible, sys.executable, *sys.argv]
    os.execvpe("unshare", command, os.environ | {_INSIDE: visible or ":"})


def brought_in() -> set[str]:
    """Names in the /tmp of the machine within that `enter` put there."""
    return {Path(folder).parts[2] for folder in os.environ[_INSIDE].split(":") if folder}


class Cable:
    """A node's network, and its cable to the daemon's."""

    def __init__(self, number: int):
        self.name, self.address = f"node{number}", f"10.77.0.{10 + number}"
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self._holder.pid}/ns/net") == own:
            time.sleep(0.01)
        _run(
            "ip", "link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self._holder.pid
        )
        _run("ip", "link", "set", self.name, "master", "farm", "up")
        _run(*self.prefix, "ip", "link", "set", "lo", "up")
        _run(*self.prefix, "ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        _run(*self.prefix, "ip", "link", "set", "eth0", "up")

    @property
    def prefix(self) -> tuple[str, ...]:
        """Before a command that is to run on this node's network."""
        return ("nsenter", f"--net=/proc/{self._holder.pid}/ns/net")

    def cut(self) -> None:
        """Nothing gets through in either direction."""
        _run("ip", "link", "set", self.name, "down")

    def heal(self) -> None:
        """As before the cut."""
        _run("ip", "link", "set", self.name, "up")

    def slow(self, kilobits: int) -> None:
        """So many kilobits a second in each direction, and up to 2 s in the queue."""
        shape = ("root", "tbf", "rate", f"{kilobits}kbit", "burst", "16kb", "latency", "2s")
        _run("tc", "qdisc", "replace", "dev", self.name, *shape)
        _run(*self.prefix, "tc", "qdisc", "replace", "dev", "eth0", *shape)

    def quick(self) -> None:
        """As before `slow`, however often that was."""
        with contextlib.suppress(OSError):
            _run("tc", "qdisc", "del", "dev", self.name, "root")
            _run(*self.prefix, "tc", "qdisc", "del", "dev", "eth0", "root")

    def lose(self, share: float, change: str = "-A") -> None:
        """Drops this share of packets in each direction, until it is called with `change` "-D"."""
        for chain in ("INPUT", "OUTPUT"):
            match = ("-m", "statistic", "--mode", "random", "--probability", share, "-j", "DROP")
            _run(*self.prefix, "iptables", "-w", change, chain, *match)

    def close(self) -> None:
        """Takes the node's network away."""
        self._holder.kill()
        self._holder.wait()


def why_no_loss() -> str:
    """Why packets can't be dropped; empty where they can."""
    if not shutil.which("iptables"):
        return "no iptables here"
    rule = (
        "INPUT",
        "-i",
        "nothing",
        "-m",
        "statistic",
        "--mode",
        "random",
        "--probability",
        "0.5",
        "-j",
        "DROP",
    )
    done = subprocess.run(["iptables", "-w", "-A", *rule], capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[0] if done.returncode else ""


class SmallDisk:
    """A tmpfs at a folder, that can be made full at any moment."""

    _ROOM = 2 << 30

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"mode=700,size={self._ROOM}", "tmpfs", folder)

    def fill(self) -> None:
        """Leaves no byte free."""
        facts = os.statvfs(self.folder)
        self._resize(max(1, facts.f_blocks - facts.f_bfree) * facts.f_frsize)

    def empty(self) -> None:
        """There is room again."""
        self._resize(self._ROOM)

    def _resize(self, size: int) -> None:
        _run("mount", "-o", f"remount,size={size}", self.folder)


def _run(*command: object) -> None:
    words: Sequence[str] = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")
