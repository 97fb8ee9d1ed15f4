"""Settings that are paths, and what a relative one counts from.

In a file: the folder that the file lies in. In the environment or a flag: the folder in which the command was called.
They are made absolute where a person gives them, because the process that uses one often runs in another folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Base = Callable[[], Path]
"""Asks for the folder that relative paths count from; asked only where there is one."""

_SQLITE_FILE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:|file:)([^?]+)(.*)", re.DOTALL)
_LOCAL_URL = re.compile(r"((?:file|local)://)(?!/)(.+)", re.DOTALL)


class NoCurrentFolder(ValueError):
    """A relative path was given in a folder that exists no longer."""


class NoHome(ValueError):
    """A path begins with ~, or is missing, and this user has no home folder."""


@dataclass(frozen=True)
class PathSetting:
    """Marks a setting as a path; `absolute` makes a text of it absolute."""

    absolute: Callable[[str, Base], str]


def path_setting(field_metadata: Iterable[Any]) -> PathSetting | None:
    """Returns the mark among a field's metadata; None where the field is no path."""
    return next((part for part in field_metadata if isinstance(part, PathSetting)), None)


def filled_in(path: Path | str) -> Path:
    """Returns the path with the home folder in the place of ~. Raises NoHome."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise NoHome(
            f"{str(path)!r} is in a home folder, and this user has none (no HOME, no entry in the system's list of users); "
            "set HOME, or give an absolute path"
        ) from None


def absolute(path: Path | str, base: Base = Path.cwd) -> Path:
    """Returns the path with ~ filled in, and joined to `base` where it is relative. Raises NoCurrentFolder, NoHome."""
    path = filled_in(path)
    if not path.is_absolute():
        try:
            path = base() / path
        except FileNotFoundError:
            raise NoCurrentFolder(
                f"{str(path)!r} is a relative path, but the current folder no longer exists; give an absolute path, "
                "or change to a folder that exists"
            ) from None
    # One folder needs one name: processes of a farm are found by the name of its home.
    return path.resolve() if ".." in path.parts else path


def folder(text: str, base: Base) -> str:
    """Returns a path as an absolute one."""
    return str(absolute(text, base))


def database_url(text: str, base: Base) -> str:
    """Returns a SQLAlchemy URL; a relative file of SQLite becomes absolute."""
    found = _SQLITE_FILE.fullmatch(text)
    return f"{found[1]}{absolute(found[2], base)}{found[3]}" if found else text


def store_url(text: str, base: Base) -> str:
    """Returns an fsspec URL; a relative folder becomes absolute."""
    if local := _LOCAL_URL.fullmatch(text):
        return f"{local[1]}{absolute(local[2], base)}"
    return text if not text or "://" in text or "::" in text else str(absolute(text, base))


def model_source(text: str, base: Base) -> str:
    """Returns where a model lies: a folder becomes absolute, a hub id stays.

    OWNER/NAME is a hub id unless such a folder lies at the base; what begins with . or ~ is always a folder.
    """
    if not text or os.path.isabs(text):
        return text
    if text.startswith((".", "~")):
        return str(absolute(text, base))
    try:
        here = absolute(text, base)
    except NoCurrentFolder:
        return text
    return str(here) if here.is_dir() else text


def every(value: Any, setting: PathSetting, base: Base) -> Any:
    """Returns `value` with each text in it made absolute; what is neither text nor a list or table of texts stays.

    An empty text stays: it stands for the default.
    """
    if isinstance(value, Path):
        return Path(setting.absolute(str(value), base))
    if isinstance(value, str):
        return setting.absolute(value, base) if value else value
    if isinstance(value, (list, tuple)):
        return [every(part, setting, base) for part in value]
    if isinstance(value, Mapping):
        return {key: every(part, setting, base) for key, part in value.items()}
    return value
