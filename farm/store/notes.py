"""The notes of a job: sentences for people, such as what the farm corrected in the spec or what a task found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update

from farm.store.tables import jobs, tasks
from farm.store.transaction import Transaction


def notes_of(facts: Mapping[str, Any] | None) -> list[str]:
    """Return the notes that a task reported: the strings in the list "notes" of its `facts`."""
    notes = (facts or {}).get("notes")
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []


def tell_job(transaction: Transaction, task_id: str, facts: Mapping[str, Any]) -> None:
    """Add a task's notes to the notes of its job.

    If the task has run before, its new notes replace its old ones. The old notes are read from the task's stored facts,
    so call this before you store the new `facts`.
    """
    connection = transaction.connection
    before = notes_of(connection.scalar(select(tasks.c.facts).where(tasks.c.id == task_id)))
    now = notes_of(facts)
    if before == now:
        return
    job_id, notes = connection.execute(
        select(jobs.c.id, jobs.c.notes).join(tasks, tasks.c.job_id == jobs.c.id).where(tasks.c.id == task_id)
    ).one()
    kept = [note for note in notes if note not in before]
    added = [note for note in now if note not in kept]
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(notes=[*kept, *added]))
