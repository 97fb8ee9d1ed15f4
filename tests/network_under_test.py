"""Separate hosts on one machine, and the switch between them, for tests.

A host is a set of Linux namespaces: it has its own network, processes, host name, /tmp and /dev/shm, and shares
nothing with another but the installed programs. A host ends with the process that made it, whatever becomes of that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

# Process 1 of a host waits for the end of its input, which is the end of the test. It is bash, because that clears
# away the zombies of those whose parents are gone. Programs that were installed under /tmp stay in sight.
_INIT = """
set -e
echo "$0" > /proc/sys/kernel/hostname
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /mnt
for folder; do mkdir -p "/mnt/${folder#/tmp/}"; mount --bind "$folder" "/mnt/${folder#/tmp/}"; done
mount --move /mnt /tmp
mkdir "/tmp/$0"
ip link set lo up
echo up
read -r end || true
"""
_PROGRAMS = {Path(__file__).resolve().parent.parent, Path(sys.prefix), Path(sys.base_prefix)}
_NAMESPACES = ("--net", "--mount", "--uts", "--ipc", "--pid")


def why_no_hosts() -> str:
    """Why hosts can't be made here; empty where they can."""
    missing = [name for name in ("ip", "ss", "unshare", "nsenter") if not shutil.which(name)]
    if missing:
        return f"no {', '.join(missing)} here (Debian's iproute2 and util-linux)"
    made = subprocess.run(
        ["unshare", *_NAMESPACES, "--fork", "true"], capture_output=True, text=True, check=False
    )
    return made.stderr.strip()


class Host:
    """A machine of its own, without a network until it is plugged in. `home`: its user's home, seen from inside; `address`:
    the last that it was given."""

    def __init__(self, name: str):
        self.name = name
        self.home = Path("/tmp") / name
        self.address = ""
        programs = [folder for folder in sorted(_PROGRAMS) if folder.is_relative_to("/tmp")]
        self._unshare = subprocess.Popen(
            ["unshare", *_NAMESPACES, "--fork", "--mount-proc", "--kill-child", "bash", "-c", _INIT, name, *programs],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._unshare.stdout is not None  # it is a pipe
        if self._unshare.stdout.readline().strip() != "up":
            raise OSError(f"host {name}: {self._unshare.communicate()[1].strip()}")
        (init,) = psutil.Process(self._unshare.pid).children()
        self.pid = init.pid

    def path(self, inside: str | Path) -> Path:
        """Where a path of this host is found from outside."""
        return Path(f"/proc/{self.pid}/root") / str(inside).lstrip("/")

    def start(self, *command: object, **options) -> subprocess.Popen[str]:
        """Starts a program in this host, in its home, with an environment as after a login."""
        environment = {
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        return subprocess.Popen(
            ["nsenter", f"--target={self.pid}", *_NAMESPACES, f"--wd={self.path(self.home)}", *map(str, command)],
            env=environment | options.pop("env", {}), stdin=subprocess.DEVNULL, text=True, **options,
        )  # fmt: skip

    def run(self, *command: object, timeout: float = 60.0, **options) -> subprocess.CompletedProcess[str]:
        """Runs a program in this host to its end."""
        process = self.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            out, err = process.communicate()
            raise AssertionError(f"{self.name}: {command} took over {timeout:g} s\n{out}\n{err}") from None
        return subprocess.CompletedProcess([*map(str, command)], process.returncode, out, err)

    def processes(self) -> list[psutil.Process]:
        """What runs in this host beside its process 1."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                inside = os.path.samefile(f"/proc/{process.pid}/ns/pid", f"/proc/{self.pid}/ns/pid")
                if inside and process.pid != self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """Its disk has no room meanwhile."""
        for _ in range(10):
            asked = _must(self.run("stat", "--file-system", "--format=%b %f %S", "/tmp")).stdout.split()
            blocks, free, size = map(int, asked)
            # Less than is in use is refused, and some pages more may have come into use between the two.
            done = self.run("mount", "-o", f"remount,size={(blocks - free + 1) * size}", "/tmp")
            if not done.returncode:
                break
        _must(done)
        try:
            yield
        finally:
            _must(self.run("mount", "-o", f"remount,size={blocks * size}", "/tmp"))

    def close(self) -> None:
        """Switches the host off: the kernel ends its processes with its process 1."""
        program = self._unshare
        assert program.stdin and program.stdout and program.stderr  # they are pipes
        program.stdin.close()
        program.wait(timeout=20)
        program.stdout.close()
        program.stderr.close()


class Switch:
    """Joins hosts to one network that has no way out: 10.77.0.0/24, or another in place of 77."""

    def __init__(self, network: int = 77):
        self._network = network
        self._host = Host("switch")
        self._inside("ip", "link", "add", "bridge", "up", "type", "bridge")

    def plug(self, host: Host, number: int, socket: str = "eth0") -> str:
        """Runs a cable to a socket of `host` and gives it the address 10.77.0.`number`, which it returns."""
        self._inside(
            "ip", "link", "add", host.name, "type", "veth", "peer", "name", socket, "netns", host.pid
        )
        self._inside("ip", "link", "set", host.name, "master", "bridge", "up")
        _must(host.run("ip", "link", "set", socket, "up"))
        return self.give(host, number, socket)

    def give(self, host: Host, number: int, socket: str = "eth0") -> str:
        """Gives `host` the address 10.77.0.`number` in place of the one that it has, and returns it."""
        _must(host.run("ip", "address", "flush", "dev", socket))
        host.address = f"10.{self._network}.0.{number}"
        _must(host.run("ip", "address", "add", f"{host.address}/24", "dev", socket))
        return host.address

    def cut(self, host: Host) -> None:
        """Pulls the cable to `host`: nothing gets through in either direction."""
        self._inside("ip", "link", "set", host.name, "down")

    def heal(self, host: Host) -> None:
        """Plugs the cable to `host` in again."""
        self._inside("ip", "link", "set", host.name, "up")

    def close(self) -> None:
        """Takes the network away."""
        self._host.close()

    def _inside(self, *command: object) -> None:
        # Not in the namespace of its processes: the others' numbers mean nothing there.
        whole = ["nsenter", f"--target={self._host.pid}", "--net", *map(str, command)]
        subprocess.run(whole, check=True, timeout=10)


def _must(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, f"{done.args}: {done.stderr}"
    return done
