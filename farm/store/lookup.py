"""Finds the job, task or node that somebody means when typing an id, the beginning of an id, or a name.

The farm and its nodes use whole ids among themselves and don't need this module.

A whole id always matches. Otherwise exactly one object must match by its name or by the beginning of its id: the farm
never chooses between two. Ids may be typed in capitals and with blanks around them. Names must be typed whole.
Otherwise "ws1" would match ws10 once ws1 has left the farm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, func, select

from farm.outside_text import shown
from farm.records import TaskRecord
from farm.store import rows
from farm.store.database import Database
from farm.store.errors import Ambiguous, NotFound
from farm.store.rows import AnyRow, AnySelect
from farm.store.tables import jobs, tasks

SHORTEST = 6
"""Characters of an id that will do. Those of jobs begin with "j-" and the time, so this is no less than four digits."""

_LISTED = 10
_COUNTED = 1000
"""Of more matches than these nobody needs to know how many there are."""

_NAME = 60
"""Characters of a name that are shown of it beside its id."""

_LONGEST_ID = 40
_TASKS = select(tasks.c.id, tasks.c.state, tasks.c.job_id, tasks.c.key)

_HOW = f"by its id, by the first {SHORTEST} or more characters of its id"
_NAMED = {
    "job": f"name a job {_HOW}, or by its name if no other job has it; `farmctl job list` shows them",
    "task": 'name a task by its job and its key, such as JOB/window/3; `farmctl task list JOB` shows them',
    "node": f"name a node {_HOW}, or by its name if no other node has it; `farmctl node list` shows them",
}  # fmt: skip


class Lookup:
    """Finds the job, task or node that somebody named. It never changes the database."""

    def __init__(self, database: Database):
        self._database = database

    def job(self, reference: str, field: str = "job_id") -> str:
        """Return the whole id of the job that somebody named.

        Args:
            reference: What was typed: an id, the beginning of an id, or a name.
            field: The field in which the reference was typed. The error Ambiguous names this field.

        Raises:
            NotFound: No job matches.
            Ambiguous: Several jobs match.
        """
        with self._database.read() as connection:
            found = _jobs(connection, reference)
            if not found:
                raise NotFound("job", reference, _NAMED["job"])
            if len(found) > 1:
                raise _ambiguous(connection, field, reference, found)
            return found[0]

    def task(self, reference: str, field: str = "task") -> TaskRecord:
        """Return the task that somebody named.

        Args:
            reference: What was typed: the id of a task, the beginning of an id, or JOB/KEY.
            field: The field in which the reference was typed. The error Ambiguous names this field.

        Raises:
            NotFound: No task matches.
            Ambiguous: Several tasks match the beginning of an id, or several jobs match JOB.
        """
        with self._database.read() as connection:
            found = _tasks(connection, reference)
            if not found and "/" in reference:
                found = _of_job(connection, reference, field)
            if not found:
                raise NotFound("task", reference, _NAMED["task"])
            if len(found) > 1:
                told = [f"{one.id}  {one.state}  {one.job_id}/{one.key}" for one in found[:_LISTED]]
                raise Ambiguous(field, reference, "task", told, len(found))
            (task,) = rows.task_records(connection, select(tasks).where(tasks.c.id == found[0].id))
            return task

    def node(self, reference: str, field: str = "node") -> str:
        """Return the whole id of the node that somebody named.

        Args:
            reference: What was typed: an id, the beginning of an id, or a name.
            field: The field in which the reference was typed. The error Ambiguous names this field.

        Raises:
            NotFound: No node matches.
            Ambiguous: Several nodes match.
        """
        wanted = reference.strip()
        with self._database.read() as connection:
            known = rows.node_records(connection)
        found = [one for one in known if one.id == wanted]
        found = found or [
            one
            for one in known
            if one.name in (reference, wanted)
            or (len(wanted) >= SHORTEST and one.id.lower().startswith(wanted.lower()))
        ]
        if not found:
            raise NotFound("node", reference, _NAMED["node"], [one.name for one in known])
        if len(found) > 1:
            told = [f"{one.id}  {one.state}  {shown(one.name, _NAME)}" for one in found[:_LISTED]]
            raise Ambiguous(field, reference, "node", told, len(found))
        return found[0].id


def _jobs(connection: Connection, reference: str) -> list[str]:
    """Return the ids of the jobs that may be meant, newest first; of very many only some."""
    wanted = reference.strip()
    if not wanted:
        return []
    if whole := _some(connection, select(jobs.c.id).where(jobs.c.id.in_({wanted, wanted.lower()}))):
        return whole
    found = set(_some(connection, select(jobs.c.id).where(jobs.c.name.in_({reference, wanted}))))
    if begins := _begins(jobs.c.id, wanted):
        found |= set(_some(connection, select(jobs.c.id).where(*begins)))
    return sorted(found, reverse=True)


def _some(connection: Connection, query: AnySelect) -> list[str]:
    return list(connection.scalars(query.order_by(jobs.c.id.desc()).limit(_COUNTED)))


def _begins(id: ColumnElement[str], wanted: str) -> list[ColumnElement[bool]]:
    """Return conditions, for the index of ids, that an id begins with `wanted`; none if it is too short or too long."""
    if not SHORTEST <= len(wanted) < _LONGEST_ID:
        return []
    beginning = wanted.lower()
    # Ids have digits and small letters, and none comes after z in any collation; a LIKE would use no index in most.
    last = beginning.ljust(_LONGEST_ID, "z")
    return [id.between(beginning, last), func.substr(id, 1, len(beginning)) == beginning]


def _tasks(connection: Connection, reference: str) -> Sequence[AnyRow]:
    """Return the tasks that may be meant by their own ids; of very many only some."""
    wanted = reference.strip()
    whole = connection.execute(_TASKS.where(tasks.c.id.in_({wanted, wanted.lower()}))).all()
    if whole or not (begins := _begins(tasks.c.id, wanted)):
        return whole
    return connection.execute(_TASKS.where(*begins).order_by(tasks.c.id.desc()).limit(_COUNTED)).all()


def _of_job(connection: Connection, reference: str, field: str) -> Sequence[AnyRow]:
    """Return the task of "JOB/KEY", where JOB names one job. Raises Ambiguous, and NotFound, which names the job."""
    meant: set[str] = set()
    lacking: set[str] = set()
    found: list[AnyRow] = []
    for name, key in _splits(reference.strip()):
        ids = _jobs(connection, name)
        here = _TASKS.where(tasks.c.job_id.in_(ids[:_LISTED]), tasks.c.key == key)
        if ids and (these := connection.execute(here).all()):
            # Also those of the jobs that have no such task: the name alone has to say which job is meant.
            meant |= set(ids)
            found += these
        else:
            lacking |= set(ids)
    if len(meant) > 1:
        raise _ambiguous(connection, field, reference, sorted(meant, reverse=True))
    if not found and len(lacking) == 1:
        (job_id,) = lacking
        keys = connection.scalars(select(tasks.c.key).where(tasks.c.job_id == job_id)).all()
        known = [f"{name}/{key}" for name, _ in _splits(reference.strip()) for key in keys]
        how = f"`farmctl task list {job_id}` shows the tasks of that job"
        raise NotFound("task", reference, how, known)
    return found


def _splits(reference: str) -> Iterator[tuple[str, str]]:
    """Yield all ways to take "JOB/KEY" apart: a name may hold a "/", and so may a key, such as window/3."""
    head, _, last = reference.rpartition("/")
    if head and last:
        yield head, last
    head, _, kind = head.rpartition("/")
    if head and kind:
        yield head, f"{kind}/{last}"


def _ambiguous(connection: Connection, field: str, reference: str, ids: Sequence[str]) -> Ambiguous:
    """Return the error that lists these jobs, newest first."""
    columns = jobs.c.id, jobs.c.name, jobs.c.state, jobs.c.created_at
    listed = select(*columns).where(jobs.c.id.in_(ids[:_LISTED])).order_by(jobs.c.id.desc())
    told = [
        f"{one.id}  {one.state}  submitted {_utc(one.created_at)}  {shown(one.name, _NAME)}".rstrip()
        for one in connection.execute(listed)
    ]
    return Ambiguous(field, reference, "job", told, len(ids))


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
