"""The errors of the store. Each error type has one gRPC status code in the API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from farm.nearest import did_you_mean
from farm.states import JobState


class StoreError(Exception):
    """The base class of all errors of the store."""


class UnusableDatabaseUrl(StoreError, ValueError):
    """The setting `store.url` doesn't name a database that the farm can use."""


class NotFound(StoreError):
    """The named object doesn't exist.

    Args:
        noun: What kind of object was looked for, such as "job".
        id: The id or name that was looked for.
        help: How to find such an object.
        known: The names that exist. The message suggests a similar name.
    """

    def __init__(self, noun: str, id: str, help: str = "", known: Iterable[str] = ()):
        super().__init__(
            f"there is no {noun} {id!r}" + (f"; {help}" if help else "") + did_you_mean(id, known)
        )
        self.noun = noun
        self.id = id


class KeyReused(StoreError):
    """An idempotency key was used before, with a different spec."""

    def __init__(self, key: str, job_id: str):
        super().__init__(
            f"idempotency_key {key!r} was used for job {job_id} with a different spec; use a new key"
        )
        self.key = key
        self.job_id = job_id


class JobFinished(StoreError):
    """The job has ended, so it can't be changed."""

    def __init__(self, job_id: str, state: JobState):
        super().__init__(
            f"job {job_id} has already {state}"
            if state != JobState.CANCELLED
            else f"job {job_id} is already cancelled"
        )
        self.job_id = job_id
        self.state = state


class StaleAttempt(StoreError):
    """The attempt is over, so the farm accepts no more results from it."""

    def __init__(self, attempt_id: str, epoch: int):
        super().__init__(f"attempt {attempt_id} of epoch {epoch} is over")
        self.attempt_id = attempt_id
        self.epoch = epoch


class MissingArtifact(StoreError):
    """An attempt reports a result, but a file of the result is missing. `what` says which file."""

    def __init__(self, attempt_id: str, what: str):
        super().__init__(f"the result of attempt {attempt_id} is incomplete: {what}")
        self.attempt_id = attempt_id
        self.what = what


class Ambiguous(StoreError):
    """A reference that somebody typed matches several objects. Nothing was changed.

    Args:
        field: The field that held the reference.
        reference: The reference.
        noun: What kind of object was looked for, such as "job".
        candidates: The first few matches, one line of text each.
        count: The number of all matches.
    """

    def __init__(self, field: str, reference: str, noun: str, candidates: Sequence[str], count: int):
        more = [f"and {count - len(candidates)} more"] if count > len(candidates) else []
        lines = "".join(f"\n  {line}" for line in [*candidates, *more])
        super().__init__(
            f"{field}: {reference!r} could be any of {count} {noun}s; give the whole id of one:{lines}"
        )
        self.field, self.count = field, count


class NodeInUse(StoreError):
    """The node can't be changed in its present state. `problem` says why, and what to do first."""

    def __init__(self, name: str, problem: str):
        super().__init__(f"{name} {problem}")
        self.name = name
        self.problem = problem


class SchemaTooNew(StoreError):
    """A newer version of the farm wrote the database."""

    def __init__(self, found: str, known: str):
        super().__init__(
            f"the database has schema {found!r}, which this version (schema {known!r}) does not know; "
            "run the newer farmd, or restore a backup made before the upgrade"
        )
        self.found = found
        self.known = known


class SchemaTooOld(StoreError):
    """An older version of the farm wrote the database, and the caller may only read it."""

    def __init__(self, found: str | None, known: str):
        super().__init__(
            f"the database has {f'schema {found!r}' if found else 'no farm in it'}, but this version works with schema "
            f"{known!r}; start farmd on it or run `farmctl db upgrade`"
        )


class DatabaseDamaged(StoreError):
    """The farm's database file is damaged. Nothing was changed."""

    def __init__(self, path: Path, problem: str):
        super().__init__(
            f"{path} is damaged ({problem}). Restore a backup with `farmctl db restore FILE --force`, which keeps the "
            "damaged file beside it; without a backup, move it away, save what can be saved with `sqlite3 DAMAGED .recover`, "
            "and restore that"
        )
        self.problem = problem


class NoFarmInDatabase(StoreError):
    """The database has no farm in it, or lacks some of a farm's tables or columns. Nothing was changed."""

    def __init__(self, where: str, problem: str):
        super().__init__(
            f"the database {where} {problem}. Name the farm's own database in store.url, or replace what is in this one by a "
            "backup: `farmctl db restore FILE --force`"
        )
        self.problem = problem


class RecordLost(StoreError):
    """The database is empty, although a farm has used it before.

    If a new farm started in it, all jobs of the earlier farm would be lost.
    """

    def __init__(self, where: str, evidence: str, anew: str):
        super().__init__(
            f"the database {where} is empty, but {evidence}: the record of that farm is missing. Restore a backup with "
            f"`farmctl db restore FILE`, or name the right database in store.url. To begin a new farm instead, move {anew} away"
        )


class DatabaseAway(StoreError):
    """The database can't be used at this moment. The caller may safely repeat the call.

    Usually the transaction was rolled back. If the connection broke during the commit, the transaction may have been
    committed. Even then it is safe to repeat the call.

    Args:
        why: The database's message. Only the first line of this message is shown.
    """

    def __init__(self, why: str):
        self.why = why.strip().splitlines()[0] if why.strip() else "no reason given"
        super().__init__(
            f"database: can't be used now ({self.why}); the farm goes on by itself when it is back"
        )


class LedByAnother(StoreError):
    """This process can't lead the farm in this database, because another process leads it."""

    def __init__(self, holder: str):
        super().__init__(
            f"the farm in this database is led by {holder or 'another process'}; end that one first (`farmctl down` "
            "on its machine, or its service), or name another database in store.url"
        )


class Deposed(StoreError):
    """Another process leads the farm now. This process can write nothing more to the database, and must end."""

    def __init__(self, who: str, epoch: int, ours: int):
        super().__init__(
            f"{who or 'another process'} leads the farm in this database now (epoch {epoch}, ours was {ours}); "
            "this one records nothing more"
        )
