"""Starts, finds and ends detached processes, which outlive the process that started them.

A subclass of DetachedProcess says which program the detached process runs.
"""

from __future__ import annotations

import abc
import contextlib
import fcntl
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from farm import damaged_files, durable
from farm.damaged_files import MADE_ANEW, DamagedFile
from farm.log_file import FILE_VARIABLE, LogFile, opened
from farm.processes.children import child_environment

# The child writes its own pid, which it keeps when it becomes the program. If the starter wrote it and were killed before,
# a process would run that nobody knows of.
_WRITE_PID_AND_BECOME = 'echo $$ > "$0" && exec "$@"'


def running_in(folder: Path) -> dict[str, int | None]:
    """Find the detached processes that run now and have `folder` as their home.

    The function reads only lock files and pid files, so it doesn't need the settings of the processes.

    Returns:
        A mapping from the name of each process to its pid, or to None if the pid is unknown.
    """
    found: dict[str, int | None] = {}
    for lock in sorted(folder.glob("*.lock")):
        if _held(lock):
            found[lock.stem] = None
            found[lock.stem] = _written_pid(lock.with_suffix(".pid"))
    return found


def _written_pid(file: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, DamagedFile):
        return int(damaged_files.read_word(file, MADE_ANEW))
    return None


def _held(lock: Path) -> bool:
    # Only an ordinary file can be a lock.
    with (
        contextlib.suppress(FileNotFoundError, DamagedFile),
        open(damaged_files.open_plain(lock, os.O_RDONLY, MADE_ANEW)) as file,
    ):
        try:
            # Shared, so that two processes that look don't take each other for the detached process.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def differences(
    command: Sequence[str],
    environment: Mapping[str, str],
    wanted_command: Sequence[str],
    wanted_variables: Mapping[str, str],
) -> list[str]:
    """Compare a running process with one that would be started now. Return a sentence for each difference.

    The function has no side effects.

    Args:
        command: The command line of the running process.
        environment: The environment of the running process.
        wanted_command: The command line that a new process would get.
        wanted_variables: The environment variables that the farm would set for a new process. Only these are compared.
    """
    pairs = itertools.zip_longest(command, wanted_command, fillvalue="nothing")
    found = [f"{old} is now {new}" for old, new in pairs if old != new]
    for name, new in sorted(wanted_variables.items()):
        old = environment.get(name)
        if old != new:
            found.append(f"{name} was {'not set' if old is None else old}, and is {new}")
    return found


def this_process(program: str) -> str:
    """Return a name for this process that is clear on other machines too, such as "farmd, pid 4711 on render-head"."""
    return f"{program}, pid {os.getpid()} on {socket.gethostname()}"


PID_SECONDS = 5.0
"""For how long a child that has just begun may not have written its pid yet."""


class DetachedProcess(abc.ABC):
    """A process that has its own session, so it outlives the process that started it.

    At most one such process runs for each pair of home folder and name.

    The process locks the file `<name>.lock` in its home folder. The kernel frees the lock when the process dies, so the
    process is alive as long as the file is locked. A pid would be less reliable, because another program can get the
    same pid later.
    """

    def __init__(self, name: str, home: Path) -> None:
        self.name = name
        self.home = home = home.absolute()
        self.pid_file = home / f"{name}.pid"
        self.log_file = home / f"{name}.log"
        self._child: subprocess.Popen[bytes] | None = None

    @abc.abstractmethod
    def command(self) -> list[str]:
        """Return the program and its arguments."""

    def variables(self) -> dict[str, str]:
        """Return the environment variables that the farm sets for the process."""
        return {}

    def environment(self) -> dict[str, str]:
        """Return the whole environment of the process."""
        return child_environment() | self.variables()

    def prepare(self) -> None:
        """Do what must be done before the process starts. Called before each start.

        During the call, no other caller can start the process.
        """

    def clean_up(self) -> None:
        """Remove the files that the process left. Called when the process and all its descendants have ended."""

    @property
    def pid(self) -> int | None:
        """The pid of the process; None if it doesn't run."""
        with self._exclusively():
            return self._running_pid()

    def alive(self) -> bool:
        """Return whether the process runs, no matter who started it."""
        with self._exclusively():
            self._collect()
            return self._locked()

    def outdated(self) -> list[str]:
        """Compare the running process with one that would be started now. Return a sentence for each difference.

        The list is empty if nothing differs, or if the process doesn't run. A difference arises, for example, if a
        setting has changed since the process was started.
        """
        for process in self.family()[:1]:
            with contextlib.suppress(psutil.Error):
                command, environment = process.cmdline(), process.environ()
                if command[:3] != ["/bin/sh", "-c", _WRITE_PID_AND_BECOME]:  # it has become what it will be
                    return differences(command, environment, self.command(), self.variables())
        return []

    def start(self) -> int:
        """Start the process, unless it already runs, and return its pid. The process may not be ready yet."""
        with self._exclusively():
            running = self._running_pid()
            if running is not None:
                return running
            remove(self.pid_file)
            self.prepare()
            with contextlib.closing(LogFile(self.log_file)) as log, self._life_lock() as lock:
                # What dies again and again before it sets up its log begins a new file here.
                log.rotate_if_full()
                fcntl.flock(lock, fcntl.LOCK_EX)
                child = subprocess.Popen(
                    ["/bin/sh", "-c", _WRITE_PID_AND_BECOME, str(self.pid_file), *self.command()],
                    env=self.environment() | {FILE_VARIABLE: str(self.log_file)},
                    cwd=self.home,
                    stdin=subprocess.DEVNULL,
                    stdout=log.fileno(),
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            self._child = child
            return child.pid

    def stop(self, timeout: float = 10.0, number: int = signal.SIGTERM) -> None:
        """End the process with all its descendants.

        The process gets the signal `number`. It then has `timeout` seconds to end its descendants and itself. Processes
        that still run after that get SIGKILL.
        """
        with self._exclusively():
            pid = self._running_pid()
            if pid is not None:
                family = self._family(pid)
                if family:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        family[0].send_signal(number)
                    _wait_for_end(family[:1], timeout)
                _wait_for_end(family, 0.5)
                # Repeatedly: a process may start another before it is killed itself. Also, the kernel shows a process as
                # ended a little before it has freed the process's locks.
                deadline = time.monotonic() + 5.0
                while time.monotonic() < deadline:
                    left = [process for process in {*family, *self._session(pid)} if _runs(process)]
                    for process in left:
                        with contextlib.suppress(psutil.NoSuchProcess):
                            process.kill()
                    self._collect()
                    if not left and not self._locked():
                        break
                    time.sleep(0.02)
            remove(self.pid_file)
            self.clean_up()

    def family(self) -> list[psutil.Process]:
        """Return the process and all its descendants; empty if it doesn't run."""
        pid = self.pid
        return [] if pid is None else self._family(pid)

    def _collect(self) -> None:
        # Only the parent can clear a zombie away, and this process may be the parent.
        if self._child is not None:
            self._child.poll()

    @staticmethod
    def _family(pid: int) -> list[psutil.Process]:
        try:
            leader = psutil.Process(pid)
            return [leader, *leader.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    @staticmethod
    def _session(pid: int) -> set[psutil.Process]:
        members = set()
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(process.pid) == pid:
                    members.add(process)
        return members

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Let only one caller at a time start, stop or look, because a look takes the life lock for a moment."""
        self.home.mkdir(parents=True, exist_ok=True)
        with open(opened(self.home / f"{self.name}.mutex", os.O_RDWR | os.O_CREAT)) as mutex:
            fcntl.flock(mutex, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _life_lock(self) -> Iterator[int]:
        descriptor = damaged_files.open_plain(
            self.home / f"{self.name}.lock", os.O_RDWR | os.O_CREAT, MADE_ANEW
        )
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _locked(self) -> bool:
        with self._life_lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def _running_pid(self) -> int | None:
        self._collect()
        deadline = time.monotonic() + PID_SECONDS
        while self._locked():
            pid = _written_pid(self.pid_file)
            if pid is not None and self._holds_lock(pid):
                return pid
            if time.monotonic() > deadline:
                # The file is gone or damaged. No process may be signalled because of a wrong number in it.
                if holder := next(filter(self._holds_lock, psutil.pids()), None):
                    return holder
                raise RuntimeError(
                    f"{self.home / self.name}.lock is locked, but {self.pid_file} does not name the process that locked it; "
                    f"find that process (`fuser {self.home / self.name}.lock`) and end it"
                )
            time.sleep(0.01)
        return None

    def _holds_lock(self, pid: int) -> bool:
        """Return whether a process leads its own session, as detached processes do, and has the life lock open."""
        try:
            if os.getsid(pid) != pid:
                return False
            lock = os.stat(self.home / f"{self.name}.lock")
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.path.samestat(os.stat(entry.path), lock):
                        return True
            return False
        except FileNotFoundError:
            # On a system without /proc only the session can be checked.
            return not os.path.isdir("/proc/self/fd")
        except OSError:
            return False


def remove(path: Path) -> None:
    """Remove the file at `path`, if there is one. A folder at `path` is renamed instead.

    Use this function only for files that are written again at each start of a process.
    """
    if path.is_dir() and not path.is_symlink():
        durable.set_aside(path)
    path.unlink(missing_ok=True)


def _wait_for_end(processes: list[psutil.Process], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while any(_runs(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.02)


def _runs(process: psutil.Process) -> bool:
    # A zombie has ended; its parent may never collect it.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
