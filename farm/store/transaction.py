"""The value that functions share within one transaction that changes the record."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from farm.policy.failures import Terms


@dataclass(frozen=True, slots=True)
class Transaction:
    """A write transaction of the leader's, as `Database.write` yields it.

    A function that changes the record takes a Transaction. One that only reads takes a Connection, which read and write
    transactions both have; so the type checker refuses a change within a transaction that was begun to read.
    """

    connection: Connection
    at: float  #: Unix seconds, for people; the same for all that the transaction writes
    now: float  #: seconds of the daemon's CLOCK_BOOTTIME, for all that is waited for
    terms: Terms  #: how much failure is borne with
