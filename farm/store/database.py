"""The connection to SQLite or PostgreSQL: how transactions begin, and which schema they find."""

from __future__ import annotations


class Database:
    """Hands out read and write transactions."""
