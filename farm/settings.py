"""Reads, checks and prints settings from a file, the environment and flags. farm.config defines the settings.

Flags win over the environment, and the environment wins over the file. An unknown key is refused as an error.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from farm import setting_paths
from farm.nearest import did_you_mean, literals
from farm.outside_text import hidden, hidden_word, shown, storable
from farm.setting_paths import NoCurrentFolder, NoHome, PathSetting, absolute, path_setting
from farm.wire import addresses


class InvalidConfig(ValueError):
    """A setting is refused. The message names the key and its file, variable or flag, and says what is accepted."""

    def __init__(self, message: str) -> None:
        super().__init__(hidden(message))


_SECRET = {"join_token", "store.url", "artifacts.url"}
"""Settings whose values may hold a secret. No message may show them."""

_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
          "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}  # fmt: skip


def parse_bytes(value: int | str) -> int:
    """Return a size in bytes from a whole number, or from text such as "24GiB" or "500MB". Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value) if isinstance(value, str) else None
    if not found or found[2].upper() not in _UNITS:
        raise ValueError('must be a number of bytes or a size such as "24GiB"')
    return round(Fraction(found[1]) * _UNITS[found[2].upper()])


_NAME = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.?"
)


def _address(value: str) -> str:
    """Return HOST:PORT with the host in its one usual form, because addresses are compared as text. Raises ValueError."""
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:]+)):([0-9]{1,5})", value)
    host = (_ipv6(found[1]) if found[1] else _host(found[2])) if found else None
    if not found or not host or int(found[3]) > 65535:
        raise ValueError(
            "must be HOST:PORT, such as 127.0.0.1:7433, [::1]:7433 or farm.studio:7433; for a name that is not ASCII, "
            "write its DNS form, xn--…"
        )
    return addresses.joined(host, int(found[3]))


def _ipv6(text: str) -> str:
    """Return an IPv6 address in its usual form, or the IPv4 address in it; "" for anything else."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return ""
    return str(address.ipv4_mapped or address)


def _host(text: str) -> str:
    """Return an IPv4 address or a name, in small letters; "" for anything else."""
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        name = text.lower()
        # A name that ends in a number is an address, perhaps a mistyped one.
        number = name.rstrip(".").rpartition(".")[2].isdecimal()
        return name if _NAME.fullmatch(name) and not number else ""


def _reachable(value: str) -> str:
    value = _address(value)
    host, port = addresses.split(value)
    if addresses.is_any(host) or not port:
        raise ValueError(
            "must be the HOST:PORT that other machines connect to, such as 10.0.0.5:7433; no machine can "
            "connect to 0.0.0.0, [::] or port 0"
        )
    return value


def _optional_address(value: str) -> str:
    return _reachable(value) if value else value


def _optional_ipv4(value: str) -> str:
    with contextlib.suppress(ValueError):
        address = ipaddress.IPv4Address(value or "127.0.0.1")
        if not (address.is_unspecified or address.is_multicast or address.is_reserved):
            return value
    raise ValueError("must be one IPv4 address of this machine, such as 10.0.0.5, or empty")


def _each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _words(value: Any) -> Any:
    """Split a comma-separated text, the form in which the environment gives lists."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Address = Annotated[str, AfterValidator(_address)]
OptionalAddress = Annotated[str, AfterValidator(_optional_address)]
Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=1)]
# The validator is for defaults: paths that people give are made absolute before.
Folder = Annotated[Path, AfterValidator(lambda given: absolute(given)), PathSetting(setting_paths.folder)]
Ipv4 = Annotated[str, AfterValidator(_optional_ipv4)]
Addresses = Annotated[
    tuple[Annotated[str, AfterValidator(_reachable)], ...],
    BeforeValidator(_words),
    AfterValidator(_each_once),
]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Folders = Annotated[tuple[Folder, ...], BeforeValidator(_words), PathSetting(setting_paths.folder)]
DatabaseUrl = Annotated[str, PathSetting(setting_paths.database_url)]
StoreUrl = Annotated[str, PathSetting(setting_paths.store_url)]
ModelSources = Annotated[dict[str, str], PathSetting(setting_paths.model_source)]


class Settings(BaseModel):
    """The base class of all tables of settings.

    Each field has a description. The docstring of a subclass says what the table is about.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, populate_by_name=True
    )


SomeSettings = TypeVar("SomeSettings", bound=Settings)


def load(
    model: type[SomeSettings],
    file_name: str,
    path: Path | None,
    prefix: str,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any],
) -> SomeSettings:
    """Return the settings of a program, from a file, the environment and flags.

    A relative path in the file is relative to the file's folder. A relative path in the environment or in a flag is
    relative to the current folder.

    Args:
        model: The class of the settings.
        file_name: The name of the default settings file, which lies in the home folder and may be missing.
        path: The settings file. None: the file that the variable `prefix`CONFIG names, or else the default file.
        prefix: The beginning of the names of the program's environment variables, such as "FARM_".
        overrides: The values of flags, by dotted key. A flag with the value None isn't set.

    Raises:
        InvalidConfig: A setting is refused, or the file can't be read.
    """
    flags = {
        key: _from_here(model, key, value, _flag(key))
        for key, value in overrides.items()
        if value is not None
    }
    variables = {
        key: (_from_here(model, key, value, variable), variable)
        for key, (value, variable) in _from_environment(model, prefix, environ).items()
    }
    if path is None and environ.get(f"{prefix}CONFIG"):
        path = _file_from_here(environ[f"{prefix}CONFIG"], f"{prefix}CONFIG")
    if path is None:
        home = flags.get("home") or variables.get("home", ("", ""))[0] or model.model_fields["home"].default
        path = _file_from_here(home, "home") / file_name
        # A dangling link means that the file is missing, not that the defaults are wanted.
        values = _read(path) if os.path.lexists(path) else {}
    else:
        path = _file_from_here(path, "--config")
        values = _read(path)
    values = _from_file(model, values, path.parent)

    origins: dict[str, str] = {}
    layers = [(key, value, name) for key, (value, name) in variables.items()]
    layers += [(key, value, _flag(key)) for key, value in flags.items()]
    for key, value, origin in layers:
        section, _, leaf = key.rpartition(".")
        place = values.setdefault(section, {}) if section else values
        if isinstance(place, dict):
            place[leaf] = value
            origins[key] = origin
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        raise InvalidConfig(_explain(model, error, origins, str(path))) from None
    for key, text in _texts(settings.model_dump()):
        # The home folder itself may not be UTF-8.
        text = os.path.expanduser(text)
        if not text.isascii() and storable(text) != text:
            raise InvalidConfig(
                f"{key}: must be UTF-8 text, because databases and Ray accept no other text"
                + ("" if key in _SECRET else f"; got {shown(text)}")
            )
    return settings


def anchored_environment(model: type[BaseModel], prefix: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `environ` that set paths, with each path made absolute.

    With absolute paths, a child process that runs in another folder finds the same files. Raises InvalidConfig if a
    path is refused.
    """
    found = {
        variable: _from_here(model, key, value, variable)
        for key, (value, variable) in _from_environment(model, prefix, environ).items()
        if (field := _field(model, key)) and path_setting(field.metadata)
    }
    if environ.get(f"{prefix}CONFIG"):
        found[f"{prefix}CONFIG"] = _file_from_here(environ[f"{prefix}CONFIG"], f"{prefix}CONFIG")
    return {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in found.items()
    }


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield all texts and paths in nested settings, each with its dotted key."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _texts(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for place, part in enumerate(value):
            yield from _texts(part, f"{key}.{place}")
    elif isinstance(value, (str, Path)):
        yield key, str(value)


def _flag(key: str) -> str:
    return f"--{key.rpartition('.')[2].replace('_', '-')}"


def _field(model: type[BaseModel], key: str) -> FieldInfo | None:
    """Return the field of a dotted key; None if there is none."""
    section, _, leaf = key.rpartition(".")
    table = _section(model.model_fields[section]) if section in model.model_fields else model
    return table.model_fields.get(leaf) if table else None


def _from_here(model: type[BaseModel], key: str, value: Any, origin: str) -> Any:
    """Return the value of a variable or flag. A path counts from the current folder. Raises InvalidConfig."""
    field = _field(model, key)
    mark = path_setting(field.metadata) if field else None
    if not field or not mark:
        return value
    several = get_origin(field.annotation) is tuple
    try:
        return setting_paths.every(_words(value) if several else value, mark, Path.cwd)
    except (NoCurrentFolder, NoHome) as error:
        raise InvalidConfig(f"{origin}: {error}") from None


def _file_from_here(path: Path | str, origin: str) -> Path:
    try:
        return absolute(path)
    except (NoCurrentFolder, NoHome) as error:
        raise InvalidConfig(f"{origin}: {error}") from None


def _from_file(model: type[BaseModel], values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the content of a file. Its paths count from its folder."""
    found = {}
    for key, value in values.items():
        field = model.model_fields.get(key)
        section = field and _section(field)
        if section and isinstance(value, Mapping):
            value = _from_file(section, value, folder)
        elif field and (mark := path_setting(field.metadata)):
            value = setting_paths.every(value, mark, lambda: folder)
        found[key] = value
    return found


def _read(path: Path) -> dict[str, Any]:
    # A shell's own pipe has a writer; any other pipe could block for ever.
    if path.is_fifo() and path.parent != Path("/dev/fd"):
        raise InvalidConfig(f"cannot read {path}: it is a pipe; give an ordinary file")
    try:
        # Some editors begin a file with a byte order mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidConfig(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidConfig(f"{path}: must be a TOML file in UTF-8, but its text is not UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidConfig(f"{path}: is not TOML: {error}") from None


def _from_environment(
    model: type[BaseModel], prefix: str, environ: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Return settings by dotted key, each with the variable that set it. Variables of other programs are ignored."""
    found: dict[str, tuple[str, str]] = {}
    for name, field in model.model_fields.items():
        section = _section(field)
        variable = prefix + name.upper()
        if section is None:
            if variable in environ and not _is_table(field):
                found[name] = (environ[variable], variable)
            continue
        keys = {f"{variable}_{key.upper()}": key for key in section.model_fields}
        for given, value in environ.items():
            if given in keys:
                found[f"{name}.{keys[given]}"] = (value, given)
            elif given.startswith(f"{variable}_"):
                raise InvalidConfig(
                    f"environment: the farm has no setting for the variable {given}{_closest(given, list(keys))}"
                )
    return found


def _explain(model: type[BaseModel], error: ValidationError, origins: Mapping[str, str], file: str) -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    origin = next((o for k, o in origins.items() if k == key or k.startswith(f"{key}.")), file)
    if first["type"] == "extra_forbidden":
        return f"{origin}: {key}: unknown key{_closest(location[-1], _keys_at(model, first['loc'][:-1]))}"
    if first["type"] == "model_type":
        return f"{origin}: {key}: must be a section, [{key}]"
    problem = first["msg"].removeprefix("Value error, ")
    problem = problem[:1].lower() + problem[1:]
    got = first.get("input")
    if key in _SECRET:
        problem = problem.partition(", got ")[0]
    elif isinstance(got, (str, int, float)) and ", got " not in problem:
        problem += f", got {hidden_word(got)!r}" if isinstance(got, str) else f", got {got!r}"
    if first["type"] == "literal_error":
        problem += did_you_mean(str(got), literals(first))
    # A problem that concerns two sections names its settings itself.
    return f"{origin}: {key}: {problem}" if key else f"{origin}: {problem}"


def _closest(word: str, accepted: list[str]) -> str:
    return f"{did_you_mean(word, accepted)} (accepted: {', '.join(sorted(accepted))})"


def _keys_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Return the keys accepted at a place in the file. Names of tables and list numbers on the way are skipped."""
    for part in location:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        inner = field and (_section(field) or _element(field))
        if inner:
            model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _element(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model in a dict[str, Model] or tuple[Model, ...]; None for other fields."""
    inner = [part for part in get_args(field.annotation) if isinstance(part, type)]
    return next((part for part in inner if issubclass(part, BaseModel)), None)


def _is_table(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is dict or _element(field) is not None


def example(model: type[Settings], file: str, program: str, prefix: str) -> str:
    """Return the text of an example settings file, with the meaning and the default of every setting.

    A line of explanation begins with "# ". A line with a setting begins with "#" and no space. To use the setting,
    remove the "#".

    Args:
        model: The class of the settings.
        file: The name of the settings file, as the text mentions it.
        program: The name of the program that reads the file.
        prefix: The beginning of the names of the program's environment variables.
    """
    lines = [
        f"# {file}: settings of {program}, each with its default. To set one, remove the # before it.",
        f"# Flags win over the environment ({prefix}<SECTION>_<KEY>), and the environment wins over this file.",
        "# A relative path counts from the folder of this file.",
        "",
    ]
    plain = {n: f for n, f in model.model_fields.items() if _section(f) is None and not _is_table(f)}
    lines += _example_lines(plain)
    for name, field in model.model_fields.items():
        section = _section(field)
        if section:
            lines += ["", *_prose(section.__doc__ or ""), f"[{name}]", *_example_lines(section.model_fields)]
        elif _is_table(field):
            lines += ["", *_prose(field.description or ""), *_example_table(name, field)]
    return "\n".join(lines) + "\n"


def _example_table(name: str, field: FieldInfo) -> list[str]:
    element, example = _element(field), (field.examples or [None])[0]
    if isinstance(example, dict) and element:
        return [
            line
            for key, shown_values in example.items()
            for line in (f"#[{name}.{key}]", *_example_lines(element.model_fields, shown_values))
        ]
    if isinstance(example, dict):
        return [f"[{name}]", *(f"#{key} = {_toml(value)}" for key, value in example.items())]
    return [f"#[[{name}]]", *(_example_lines(element.model_fields) if element else [])]


def _example_lines(fields: Mapping[str, FieldInfo], values: object = None) -> list[str]:
    """Return the lines of settings with their defaults, or with the `values` of an example."""
    lines = []
    for name, field in fields.items():
        sizes = parse_bytes in {getattr(part, "func", None) for part in field.metadata}
        value = getattr(values, name, field.default)
        value = _size(value) if sizes else value
        lines += [*_prose(field.description or ""), f"#{field.alias or name} = {_toml(value)}"]
    return lines


def _size(count: int) -> str:
    unit = next(u for u in ("TiB", "GiB", "MiB", "KiB", "B") if count % _UNITS[u.upper()] == 0)
    return f"{count // _UNITS[unit.upper()]}{unit}"


def _prose(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), 100, initial_indent="# ", subsequent_indent="# ")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(part)}" for key, part in value.items()) + " }"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)
