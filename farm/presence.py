"""What a presence plugin says of a workstation's owner, and the owner's own word.

Light: runs in the agent and in farmctl. What follows from it is the agent's to judge (nodeagent.owner.owner).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from farm import damaged_files
from farm.durable import write_whole

AWAY = math.inf
"""Nobody is at the machine, for however long."""

_FILE = "mine.json"


class CannotTell(Exception):
    """A plugin can't say whether the owner is there; the message says why."""


@dataclass(frozen=True)
class Presence:
    """A way to tell whether somebody is at a workstation.

    `seconds_idle(command)` returns the seconds since the owner last touched the machine: 0.0 for one who is there, AWAY
    for nobody at all. It is called every few seconds in a thread, should answer within a few, and raises CannotTell;
    `command` is owner.command of node.toml. An agent that can't tell takes no work.
    """

    name: str
    description: str
    seconds_idle: Callable[[str], float]


def take(home: Path, until: float | None) -> None:
    """The owner takes the machine from the farm, until that Unix time or for good. `home` is the agent's.

    Nothing but the file system protects this: whoever may write in the agent's folder may. Raises OSError.
    """
    write_whole(home / _FILE, json.dumps({"until": until}).encode())


def give_back(home: Path) -> None:
    """The farm may have the machine again. Raises OSError."""
    (home / _FILE).unlink(missing_ok=True)


def taken(home: Path, now: float) -> str:
    """Why the machine is its owner's at `now` (Unix seconds), as in "it was taken"; empty: nobody has taken it."""
    file = home / _FILE
    try:
        said = damaged_files.read_object(file, "Say it again with `farmctl node mine`")
        until = said["until"]
        if until is None:
            return "was taken by its owner until they say otherwise"
        if isinstance(until, bool) or not isinstance(until, (int, float)):
            raise TypeError("until is not a time")
        return "" if now >= until else f"was taken by its owner until {_at(until)}"
    except FileNotFoundError:
        return ""
    except (damaged_files.DamagedFile, KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        # Somebody meant something by it.
        return f"was taken by its owner, though {file} can't be read: {error}"


def _at(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
