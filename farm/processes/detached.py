"""Processes that outlive the one that started them, and are found again by the next.

Here live starting, recognising and ending such a process; what it runs is a subclass's business.
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
from farm.log_file import LogFile, opened
from farm.logs import FILE_VARIABLE
from farm.processes.children import child_environment

# Writes the pid of what it becomes: were the starter to write it, a starter killed in between would leave a
# process that nobody knows of.
_WRITE_PID_AND_BECOME = 'echo $$ > "$0" && exec "$@"'


def running_in(folder: Path) -> dict[str, int | None]:
    """Returns the detached processes of `folder` that run now: pid by name, None where no pid is written.

    Judged by their locks alone, so that it needs none of the settings they were started with.
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
    # What is no file is nobody's lock.
    with (
        contextlib.suppress(FileNotFoundError, DamagedFile),
        open(damaged_files.open_plain(lock, os.O_RDONLY, MADE_ANEW)) as file,
    ):
        try:
            # Shared, so that two who look don't take each other for the process.
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
    """How what a process was started with differs from what it would be started with now, in words. Pure.

    `wanted_variables` are those by which the farm tells it something; others don't count.
    """
    pairs = itertools.zip_longest(command, wanted_command, fillvalue="nothing")
    found = [f"{old} is now {new}" for old, new in pairs if old != new]
    for name, new in sorted(wanted_variables.items()):
        old = environment.get(name)
        if old != new:
            found.append(f"{name} was {'not set' if old is None else old}, and is {new}")
    return found


def this_process(program: str) -> str:
    """Names this process to people on other machines: "farmd, pid 4711 on render-head"."""
    return f"{program}, pid {os.getpid()} on {socket.gethostname()}"


class DetachedProcess(abc.ABC):
    """One process per (home, name), in a session of its own.

    The process holds a lock on `<name>.lock` for as long as it lives, which the kernel frees at its death.
    So "alive" means "the lock is held": a pid that another program was given since is never mistaken for ours,
    whatever happened to the clock or the machine in between.
    """

    def __init__(self, name: str, home: Path) -> None:
        self.name = name
        self.home = home = home.absolute()
        self.pid_file = home / f"{name}.pid"
        self.log_file = home / f"{name}.log"
        self._child: subprocess.Popen[bytes] | None = None

    @abc.abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    def variables(self) -> dict[str, str]:
        """Those by which the farm tells it something."""
        return {}

    def environment(self) -> dict[str, str]:
        """The whole environment it runs in."""
        return child_environment() | self.variables()

    def prepare(self) -> None:
        """Runs before each start, while nobody else can start it."""

    def clean_up(self) -> None:
        """Runs after the process and all its descendants are gone."""

    @property
    def pid(self) -> int | None:
        """Its pid while it runs, otherwise None."""
        with self._exclusively():
            return self._running_pid()

    def alive(self) -> bool:
        """Whether it runs, whoever started it."""
        with self._exclusively():
            self._collect()
            return self._locked()

    def outdated(self) -> list[str]:
        """How what runs differs from what a start would make now, in words; empty where nothing does, or nothing runs.

        Settings change, and machines move to other networks, while a process that outlives its starter goes on.
        """
        for process in self.family()[:1]:
            with contextlib.suppress(psutil.Error):
                command, environment = process.cmdline(), process.environ()
                if command[:3] != ["/bin/sh", "-c", _WRITE_PID_AND_BECOME]:  # it has become what it will be
                    return differences(command, environment, self.command(), self.variables())
        return []

    def start(self) -> int:
        """Starts it, or adopts the one that runs already; returns its pid without waiting until it is ready."""
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
        """Ends it with all its descendants.

        It has timeout seconds after the signal `number` to end them itself; whatever is left then gets SIGKILL.
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
                # Again and again: whoever is killed later may have started another in between. And the kernel shows a
                # process as over a little before it has freed what it held.
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
        """It and all its descendants; empty when it doesn't run."""
        pid = self.pid
        return [] if pid is None else self._family(pid)

    def _collect(self) -> None:
        # Where we are its parent, nobody else clears its zombie away.
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
        """Lets one caller at a time start, stop or look: a look takes the life lock for a moment."""
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
        # Between a child's first moment and its first line there is no pid to read yet.
        deadline = time.monotonic() + 5.0
        while self._locked():
            pid = _written_pid(self.pid_file)
            if pid is not None and self._holds_lock(pid):
                return pid
            if time.monotonic() > deadline:
                # The file is gone or damaged: a process must not be signalled because a broken number names it.
                if holder := next(filter(self._holds_lock, psutil.pids()), None):
                    return holder
                raise RuntimeError(
                    f"{self.home / self.name}.lock is held, but {self.pid_file} names no process that holds it; find "
                    f"that process (`fuser {self.home / self.name}.lock`) and end it"
                )
            time.sleep(0.01)
        return None

    def _holds_lock(self, pid: int) -> bool:
        """Whether a process leads a session of its own, as each of these does, and has the life lock open."""
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
            # A system without /proc: its session is all there is to see.
            return not os.path.isdir("/proc/self/fd")
        except OSError:
            return False


def remove(path: Path) -> None:
    """Take away a file that is made anew at each start; a folder that has come into its place is set aside."""
    if path.is_dir() and not path.is_symlink():
        durable.set_aside(path)
    path.unlink(missing_ok=True)


def _wait_for_end(processes: list[psutil.Process], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while any(_runs(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.02)


def _runs(process: psutil.Process) -> bool:
    # A zombie is over; whether its parent ever collects it is not ours to wait for.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
