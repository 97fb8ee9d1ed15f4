"""What the store refuses, each a type that the API maps to one status code."""

from __future__ import annotations

from farm.states import JobState


class StoreError(Exception):
    """Base of all refusals of the store."""


class NotFound(StoreError):
    """There is no such thing. `noun` and `id` say what was looked for."""

    def __init__(self, noun: str, id: str):
        super().__init__(f"there is no {noun} {id!r}")
        self.noun = noun
        self.id = id


class KeyReused(StoreError):
    """An idempotency key came back with another spec."""

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
    """The attempt's epoch is over: nothing it makes is wanted."""

    def __init__(self, attempt_id: str, epoch: int):
        super().__init__(f"attempt {attempt_id} of epoch {epoch} is over")
        self.attempt_id = attempt_id
        self.epoch = epoch


class MissingArtifact(StoreError):
    """A completion names artifacts that its attempt has not stored, or lacks the one that counts."""

    def __init__(self, attempt_id: str, what: str):
        super().__init__(f"the result of attempt {attempt_id} lacks {what}")
        self.attempt_id = attempt_id
        self.what = what


class AmbiguousName(StoreError):
    """Several nodes have this name."""

    def __init__(self, name: str, ids: list[str]):
        super().__init__(f"several nodes are called {name!r}; use an id: {', '.join(ids)}")
        self.name = name
        self.ids = ids


class SchemaTooNew(StoreError):
    """The database was written by newer software."""

    def __init__(self, found: str, known: str):
        super().__init__(
            f"the database has schema {found!r}, which this version (schema {known!r}) does not know; "
            "run the newer farmd, or restore a backup made before the upgrade"
        )
        self.found = found
        self.known = known
