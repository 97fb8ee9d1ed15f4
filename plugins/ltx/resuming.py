"""Denoise a window so that the task can stop between two steps and continue from there on another device.

The saved state is a safetensors file. The file holds the array "latents", float32 as in denoise.State. The file's
metadata gives the format, the step, and the fingerprint of the task (farm.rendering.TaskContext).

Windows in lockstep don't use such files. If such a window is lost, it begins again from its first step. It then catches
up with its neighbours, because their renderers keep all estimates that it has to get from them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from farm.rendering import TaskContext
from plugins.ltx.denoise import Denoiser, State
from plugins.ltx.loading import Ltx

_FORMAT, _PLAIN_FORMAT = "ltx-state-2", "ltx-state-1"
"""Format 2 also has what the sampler remembers. Format 1 is read for one more release, and written where there is nothing
to remember, so that an older renderer can continue from it."""

_HISTORY = "history."


class Unfit(Exception):
    """A saved state doesn't belong to this task; the message says what differs."""


def save(state: State, fingerprint: str, path: Path) -> None:
    """Write a state to `path`, with the fingerprint of its task."""
    form = _FORMAT if state.history else _PLAIN_FORMAT
    metadata = {"format": form, "fingerprint": fingerprint, "step": str(state.step)}
    tensors = {"latents": state.latents} | {_HISTORY + name: one for name, one in state.history.items()}
    save_file({name: one.float().cpu().contiguous() for name, one in tensors.items()}, path, metadata)


def load(path: Path, fingerprint: str, denoiser: Denoiser) -> State:
    """Return the state that was saved at `path`, so that a task can continue from it.

    `fingerprint` and `denoiser` are those of the task that is to continue.

    Raises:
        Unfit: the state has another format or fingerprint, or the file can't be read.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it can't be iterated
        if metadata.get("format") not in (_FORMAT, _PLAIN_FORMAT):
            raise Unfit(
                f"the saved state has the format {metadata.get('format')!r}, but the format must be {_FORMAT!r}"
            )
        if metadata.get("fingerprint") != fingerprint:
            raise Unfit("the saved state belongs to another task, model or plan")
        history = {
            name.removeprefix(_HISTORY): one for name, one in tensors.items() if name.startswith(_HISTORY)
        }
        return denoiser.resume(tensors["latents"], int(metadata.get("step", "")), history)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise Unfit(f"the file of the saved state can't be read: {error}") from error


def run(ltx: Ltx, denoiser: Denoiser, task: TaskContext) -> torch.Tensor:
    """Do all remaining steps of a task; return the window's latents, float32 [C, n, h, w] on the CPU.

    If the task has a saved state, denoising continues from that state. The result is the same as without a stop.
    """
    fingerprint = task.fingerprint
    state = _begin(denoiser, task, fingerprint)
    # A cache in the transformer carries over from step to step what no State holds; with one there is nothing to save.
    whole = not ltx.transformer.is_cache_enabled
    while state.step < denoiser.steps:
        keep = partial(save, state, fingerprint) if whole and state.step else None
        task.step(state.step, denoiser.steps, keep)
        state = denoiser.step(state)
    return denoiser.result(state).cpu()


def _begin(denoiser: Denoiser, task: TaskContext, fingerprint: str) -> State:
    path = task.saved()
    if path is None:
        return denoiser.begin()
    try:
        state = load(path, fingerprint, denoiser)
    except Unfit as unfit:
        why = f"the saved state of an earlier attempt can't be used: {unfit}"
        task.report(f"began anew, because {why}", {"began_anew": why})
        return denoiser.begin()
    task.report(f"went on from step {state.step} of {denoiser.steps}", {"from_step": state.step})
    return state
