"""Settings that are paths: makes relative paths absolute.

A relative path in a settings file starts at the file's folder. A relative path in the environment or a flag starts at
the current folder of the command. The command that a person runs makes paths absolute, because the process that uses
them later often runs in another folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Base = Callable[[], Path]
"""A function that returns the folder from which relative paths count. It is called only for a relative path."""

_SQLITE_FILE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:|file:)([^?]+)(.*)", re.DOTALL)
_LOCAL_URL = re.compile(r"((?:file|local)://)(?!/)(.+)", re.DOTALL)


class NoCurrentFolder(ValueError):
    """A relative path was given, but the current folder no longer exists."""


class NoHome(ValueError):
    """A path needs the user's home folder (it begins with ~, or is the default), and this user has none."""


@dataclass(frozen=True)
class PathSetting:
    """Marks a setting as a path. `absolute(text, base)` returns the path as absolute text.

    A relative path starts at the folder that `base` returns.
    """

    absolute: Callable[[str, Base], str]


def path_setting(field_metadata: Iterable[Any]) -> PathSetting | None:
    """Return the PathSetting in a field's metadata; None if the field is not a path."""
    return next((part for part in field_metadata if isinstance(part, PathSetting)), None)


def filled_in(path: Path | str) -> Path:
    """Return the path with ~ replaced by the user's home folder. Raises NoHome."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise NoHome(
            f"{str(path)!r} begins with ~, but the system does not know that home folder; "
            "set HOME, or give an absolute path"
        ) from None


def absolute(path: Path | str, base: Base = Path.cwd) -> Path:
    """Return `path` as an absolute path, with ~ replaced. A relative path starts at the folder that `base()` returns.

    Raises NoCurrentFolder and NoHome.
    """
    path = filled_in(path)
    if not path.is_absolute():
        try:
            path = base() / path
        except FileNotFoundError:
            raise NoCurrentFolder(
                f"{str(path)!r} is a relative path, but the current folder no longer exists; give an absolute path, "
                "or change to a folder that exists"
            ) from None
    # One folder needs one name, because processes of a farm are found by the name of its home.
    return path.resolve() if ".." in path.parts else path


def folder(text: str, base: Base) -> str:
    """Return the path `text` as an absolute path. A relative path starts at the folder that `base()` returns."""
    return str(absolute(text, base))


def database_url(text: str, base: Base) -> str:
    """Return the SQLAlchemy URL `text`. The path of an SQLite file in it is made absolute."""
    found = _SQLITE_FILE.fullmatch(text)
    return f"{found[1]}{absolute(found[2], base)}{found[3]}" if found else text


def store_url(text: str, base: Base) -> str:
    """Return `text`, which is an fsspec URL or a path. The path of a local folder is made absolute."""
    if local := _LOCAL_URL.fullmatch(text):
        return f"{local[1]}{absolute(local[2], base)}"
    return text if not text or "://" in text or "::" in text else str(absolute(text, base))


def model_source(text: str, base: Base) -> str:
    """Return where a model comes from: a folder as an absolute path, or a Hugging Face id unchanged.

    OWNER/NAME is a Hugging Face id, unless there is a folder OWNER/NAME in the folder that `base()` returns. A text
    that begins with . or ~ is always a folder.
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
    """Return the value of a setting with all its paths made absolute.

    An empty text stays empty, because it means the default. Values that aren't texts or paths stay as they are.

    Args:
        value: A path or a text, or a list or table of paths and texts.
        setting: Its function `absolute` makes one path absolute.
        base: Returns the folder at which relative paths start.
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
