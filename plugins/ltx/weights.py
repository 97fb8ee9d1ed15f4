"""Find a model's folder, and identify the weights in it by a hash. This module doesn't import torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from pathlib import Path

from farm.damaged_files import DamagedFile, read_object
from farm.durable import write_whole

INDEX = "model_index.json"

UPSAMPLER = "latent_upsampler"
"""Component that no released model's index names: a studio puts its folder beside the others."""

_COUNTED = {".json", ".model", ".txt", ".safetensors"}


def locate(source: str | Path, *, local_files_only: bool = True) -> Path:
    """Return the local diffusers folder of a model.

    Args:
        source: a folder, or a Hugging Face id. The id is looked up in the Hugging Face cache on this machine.
        local_files_only: if False, files that the cache lacks are downloaded.

    Raises:
        FileNotFoundError: ``source`` is neither a folder nor a known id, or its folder has no model_index.json.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

        try:
            folder = Path(snapshot_download(str(source), local_files_only=local_files_only))
        except (HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError) as error:
            raise FileNotFoundError(
                f"weights: {str(source)!r} is neither a folder nor the id of a Hugging Face model in the local cache"
            ) from error
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"weights: {folder} is not a diffusers folder: it has no {INDEX}")
    return folder


def has_upsampler(folder: str | Path) -> bool:
    """Return whether a diffusers folder holds a latent upsampler."""
    return (Path(folder) / UPSAMPLER).is_dir()


def weights_hash(folder: str | Path, cache: str | Path | None = None) -> str:
    """Return a hash, ``"sha256:…"``, of the names and contents of a model's files.

    The hash covers model_index.json, and the configs, tokenizer files and safetensors of each component named in
    model_index.json. A latent upsampler counts as a component even if it isn't named there. The hash doesn't
    depend on other files, or on where the folder is.

    Args:
        folder: the model's diffusers folder.
        cache: a folder that stores each file's hash by path, size and mtime, so that unchanged files aren't read again.

    Raises:
        FileNotFoundError: the folder has no model_index.json, or no files for one of its components.
    """
    folder = Path(folder)
    memory = _Memory(Path(cache) / "weights.json" if cache is not None else None)
    total = hashlib.sha256()
    for name in _files(folder):
        total.update(f"{name}\0{memory.sha256(folder / name)}\n".encode())
    memory.save()
    return f"sha256:{total.hexdigest()}"


def _files(folder: Path) -> list[str]:
    index = folder / INDEX
    if not index.is_file():
        raise FileNotFoundError(f"weights: {folder} is not a diffusers folder: it has no {INDEX}")
    found = [INDEX]
    components = {
        component
        for component, where in json.loads(index.read_text()).items()
        if not component.startswith("_") and isinstance(where, list) and where[0] is not None
    }
    # It shapes a job's result as much as those that are named.
    for component in components | ({UPSAMPLER} if has_upsampler(folder) else set()):
        files = [
            f"{component}/{path.relative_to(folder / component).as_posix()}"
            for path in (folder / component).rglob("*")
            if path.suffix in _COUNTED and path.is_file()
        ]
        if not files:
            raise FileNotFoundError(f"weights: {folder} has no files for its component {component!r}")
        found += files
    return sorted(found)


class _Memory:
    """Hashes of files already read, kept in one JSON file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._entries: dict[str, dict[str, int | str]] = {}
        self._changed = False
        if path is not None:
            # A lost or torn cache only costs time.
            with contextlib.suppress(OSError, DamagedFile):
                self._entries = read_object(path, "It is made again")

    def sha256(self, path: Path) -> str:
        stat = path.stat()
        known = self._entries.get(str(path.absolute()))
        seen = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        if isinstance(known, dict) and {name: known.get(name) for name in seen} == seen:
            digest = str(known.get("sha256"))
            if re.fullmatch("[0-9a-f]{64}", digest):
                return digest
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._entries[str(path.absolute())] = seen | {"sha256": digest}
        self._changed = True
        return digest

    def save(self) -> None:
        if self._path is None or not self._changed:
            return
        # What can't be remembered is hashed again.
        with contextlib.suppress(OSError):
            write_whole(self._path, json.dumps(self._entries).encode())
