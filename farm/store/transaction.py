"""The write transaction that functions of the store pass to each other."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from farm.policy.failures import Terms


@dataclass(frozen=True, slots=True)
class Transaction:
    """A write transaction of the leader, as `Database.write` yields it.

    A function that changes the database takes a Transaction. A function that only reads takes a Connection, which both
    read and write transactions have. So the type checker refuses a change within a read transaction.
    """

    connection: Connection
    at: float  #: Unix seconds, for people; the same for all that the transaction writes
    now: float  #: seconds of the daemon's CLOCK_BOOTTIME, for all that is waited for
    terms: Terms  #: how much failure is borne with
