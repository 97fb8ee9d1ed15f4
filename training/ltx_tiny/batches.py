"""Makes training batches for the transformer. A batch holds windows that are cut from clips.

In some windows, the model is given some of the latents, as in the farm's jobs. Given latents are placed as in
``plugins.ltx.conditioning``:

- Latents of an image, or of the start or end of a clip, replace latents of the window.
- Keyframes and the tail of the previous window are extra tokens beside the window's own.

The strength of given latents says how closely the model must keep to them. At strength 1, given tokens have no noise.
At a lower strength, their sigma (noise level) is capped.

Some windows refine a storyboard (a small draft of the whole video). Such a window begins with the storyboard's latents,
which are enlarged and noised.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch

from plugins.ltx.blend import upsample
from plugins.ltx.conditioning import FRAMES_PER_LATENT
from training.ltx_tiny.pool import Group, number
from training.ltx_tiny.scenes import COLOURS

_PIXELS_PER_LATENT = 32
_WINDOW = 16
"""Latents of the farm's longest windows; a longer clip is there to have windows far from its start."""

_LARGE = 200
"""Tokens of a latent frame from which on a window of two latents is worth a step."""

_SINK = -8.0
"""Frame at which a window is shown the clip's first frame."""

_CONTRADICTED = 0.15
"""Share of windows whose given latents are of another scene than the caption. A second prompt takes over in such a window."""

_SHAPES = 4.0
"""Extra weight of a token that shows a shape. Most tokens show background and would decide the loss."""

REFINED = 0.85
"""The sigma from which windows over a storyboard are made."""


@dataclass
class Batch:
    """B windows of N tokens.

    - ``clean``, float32 [B, N, C]: the latents that the model has to learn.
    - ``base`` [B, N, C]: the enlarged latents of the storyboard that a window refines. If the window has no storyboard,
      they are the same as ``clean``.
    - ``cap`` [B, N]: the highest sigma (noise level) of each token: 0 for a token that is given at strength 1, and 1
      for a token to be drawn freely.
    - ``graded`` [B, N]: the weight of each prediction in the loss.
    - ``coords`` [B, 3, N]: the position of each token: the time in seconds, the row and the column in pixels.
    - ``refined`` [B]: whether a window refines a storyboard.
    - ``captions``: B captions.
    - ``whole`` [B]: whether a caption is the scene's full caption.
    - ``area``: the number of tokens of a latent frame.
    """

    clean: torch.Tensor
    base: torch.Tensor
    cap: torch.Tensor
    graded: torch.Tensor
    coords: torch.Tensor
    refined: torch.Tensor
    captions: list[str]
    whole: torch.Tensor
    area: int


@dataclass
class _Window:
    """Latents [C, e + n, h, w], the e extra ones first; caps, grades and frame numbers [e + n]."""

    clean: torch.Tensor
    base: torch.Tensor
    cap: torch.Tensor
    graded: torch.Tensor
    frames: torch.Tensor
    refined: bool


def draw(
    groups: list[Group],
    mean: torch.Tensor,
    std: torch.Tensor,
    rng: np.random.Generator,
    tokens: int,
    caption_dropout: float = 0.1,
    small: float = 0.0,
) -> Batch:
    """Draw a random batch, in which all windows have the same size and length.

    The batch is drawn from one group. The probability of a group is proportional to ``share / area**small``. ``share``
    is the group's own weight, and ``area`` is the number of tokens in one of its latent frames.

    Args:
        groups: The clips to draw from, grouped by size and length.
        mean: The mean of the latents by channel, [C], which normalises the batch.
        std: The standard deviation of the latents by channel, [C], which normalises the batch.
        tokens: The approximate number of tokens in the batch.
        caption_dropout: The fraction of windows that get no caption.
        small: How strongly small frames are preferred; 0 for no preference.
    """
    areas = np.array([max(9, group.latents[0, 0, 0].numel()) for group in groups], float)
    shares = np.array([group.share for group in groups]) / areas**small
    group = groups[int(rng.choice(len(groups), p=shares / shares.sum()))]
    total, height, width = group.latents.shape[2:]
    shortest = 3 if height * width < _LARGE else 2
    most = min(total, _WINDOW)
    length = number(rng, 1, most) if rng.random() < 0.3 else min(total, number(rng, shortest, 7))
    if total >= _WINDOW and rng.random() < 0.7:
        length = number(rng, _WINDOW // 2, _WINDOW)
    sink = total > length and rng.random() < 0.3
    # In a chain a window has both: a sink, and beside its first latents those of the window before.
    tail = number(rng, 1, min(5, length)) if sink and rng.random() < 0.5 else 0
    extras = 1 + tail if sink else 0 if rng.random() < 0.7 else number(rng, 1, min(3, length))
    count = max(1, tokens // ((length + extras) * height * width))
    chosen = rng.integers(len(group.captions), size=count)
    windows, contradicted = [], []
    for clip in chosen:
        other = int(rng.integers(len(group.captions))) if rng.random() < _CONTRADICTED else int(clip)
        layout = copy.deepcopy(rng)
        windows.append(_window(group, int(clip), length, extras, sink, rng))
        contradicted.append(other != int(clip))
        if contradicted[-1]:
            _show(_window(group, other, length, extras, sink, layout), windows[-1])
    area = height * width
    clean, base = (
        ((torch.stack(part) - mean[:, None, None, None]) / std[:, None, None, None])
        .flatten(2)
        .transpose(1, 2)
        .contiguous()
        for part in ([window.clean for window in windows], [window.base for window in windows])
    )
    graded = torch.stack([window.graded for window in windows]).repeat_interleave(area, 1)
    frames = torch.stack([window.frames for window in windows])
    seconds = frames / torch.tensor([group.fps[clip] for clip in chosen])[:, None]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([rows.flatten(), columns.flatten()]).float() * _PIXELS_PER_LATENT
    captions = []
    for clip, window, against in zip(chosen, windows, contradicted, strict=True):
        if rng.random() < caption_dropout and not against:
            captions.append("")
        else:
            captions.append(said(group.captions[clip], bool((window.cap == 0).any()) and not against, rng))
    whole = [text == group.captions[clip] for text, clip in zip(captions, chosen, strict=True)]
    return Batch(
        clean,
        base,
        torch.stack([window.cap for window in windows]).repeat_interleave(area, 1),
        graded * (1.0 + _SHAPES * _shapes(clean)),
        torch.cat(
            [
                seconds.repeat_interleave(area, 1)[:, None],
                place.repeat(1, length + extras)[None].expand(count, -1, -1),
            ],
            dim=1,
        ),
        torch.tensor([window.refined for window in windows]),
        captions,
        torch.tensor(whole),
        area,
    )


def said(caption: str, given: bool, rng: np.random.Generator) -> str:
    """Return a caption as people would write it.

    If the window is given a clip or an image, the caption is shortened with a probability of 0.6, because people
    needn't describe what the clip or image shows.

    Args:
        caption: A caption from ``scenes``. This function knows the words that such captions use.
        given: Whether the window is given a clip or an image.
    """
    way = rng.random() if given else 0.0
    if way < 0.40:
        return caption
    words = caption.split(" on a ")[0]
    if way < 0.46:
        return words
    colourless = _without_colours(caption if way < 0.58 else words)
    return colourless if way < 0.74 else colourless.split(" moving ")[0]


def _without_colours(caption: str) -> str:
    return " ".join(word for word in caption.split(" ") if word not in COLOURS).replace("an ", "a ")


def _window(
    group: Group, clip: int, length: int, extras: int, sink: bool, rng: np.random.Generator
) -> _Window:
    latents, images = group.latents[clip].float(), group.images[clip].float()
    total = latents.shape[1]
    inside = total > length and (sink or rng.random() < 0.25)
    start = number(rng, 1, total - length) if inside else 0
    grid = latents[:, start : start + length].clone()
    cap, graded, frames = torch.ones(length), torch.ones(length), _frames(length, 0)
    made = _Window(grid, grid, cap, graded, frames, refined=False)
    board = None if group.boards is None else group.boards[clip].float()
    over = 0.5 if start else 0.0 if board is None else 0.3
    if extras == sink and rng.random() < over:
        # Its layout is there to see, and sometimes a part of the clip itself.
        made.refined = True
        if board is not None:
            made.base = upsample(board[:, start : start + length], *grid.shape[2:])
        cap.fill_(REFINED)
        if rng.random() < 0.4:
            cap[_given(length, rng)] = 0.0
        graded[cap == 0.0] = 0.0
        if not sink:
            return made
        made.base = _drifted(made.base, rng)
        return _with(made, images[:, :1], torch.tensor([_SINK]), 0.0)
    cap[_given(length, rng)] = 0.0
    if start and (not sink or (extras == 1 and rng.random() < 0.5)):
        # A window inside a shot: its text is the shot's, so what it continues must be there to see.
        cap[: number(rng, 1, max(1, min(3, length - 1)))] = 0.0
    for index in range(length):
        # An image in the grid is encoded alone, where a clip's latent holds eight frames.
        if cap[index] == 0.0 and not start and index and rng.random() < 0.5:
            grid[:, index] = images[:, index]
    if rng.random() < 0.1:
        cap[cap == 0.0] = float(rng.random())
    graded[cap == 0.0] = 0.0
    if sink:
        known = cap == 0.0
        grid[:, known] = _drifted(grid[:, known], rng)
    if sink and extras > 1:
        beside = _drifted(latents[:, start : start + extras - 1], rng)
        strength = 0.0 if rng.random() < 0.4 else 0.5 if rng.random() < 0.5 else float(rng.random())
        made = _with(made, beside, _frames(extras - 1, 0), strength)
    if sink:
        return _with(made, images[:, :1], torch.tensor([_SINK]), 0.0)
    if not extras:
        return made
    if start or rng.random() < 0.4:
        beside, at = latents[:, start : start + extras], _frames(extras, 0)
        if start:
            cap.fill_(1.0)
            graded.fill_(1.0)
    else:
        places = torch.from_numpy(np.sort(rng.permutation(length)[:extras]))
        beside, at = images[:, places], places * float(FRAMES_PER_LATENT)
    return _with(made, beside, at, 0.0 if rng.random() < 0.6 else float(rng.random()))


def _drifted(latents: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """In one half of the calls ``latents`` [C, n, h, w] with faded shapes of another hue, in the other half as they are.

    A chain of windows draws such latents after a while; its background stays. A window with a sink can restore them.
    """
    if rng.random() < 0.5 or not latents.numel():
        return latents
    gain = rng.uniform(0.6, 1.1) * (1.0 + 0.25 * torch.from_numpy(rng.standard_normal(len(latents))).float())
    ground = _ground(latents.flatten(1).T)[:, None, None, None]
    return ground + (latents - ground) * gain[:, None, None, None]


def _show(other: _Window, window: _Window) -> None:
    """Replace the given latents of ``window`` by those of ``other``, a window of the same layout. The latents that are to be
    drawn stay.
    """
    given = window.graded == 0.0
    window.clean = torch.where(given[:, None, None], other.clean, window.clean)
    window.base = torch.where(given[:, None, None], other.base, window.base)


def _ground(tokens: torch.Tensor) -> torch.Tensor:
    """The latent of the background, [..., C]: the median of ``tokens`` [..., N, C]."""
    return tokens.median(-2).values


def _shapes(tokens: torch.Tensor) -> torch.Tensor:
    """Share of a shape in each of ``tokens`` [B, N, C]: [B, N], from 0 to 1."""
    distance = (tokens - _ground(tokens)[:, None]).norm(dim=-1)
    return (2.0 * distance / distance.amax(1, keepdim=True).clamp(min=1e-6)).clamp(max=1.0)


def _with(window: _Window, beside: torch.Tensor, frames: torch.Tensor, cap: float) -> _Window:
    """The window with extra latents ``beside`` [C, e, h, w] it, which aren't graded."""
    extras = beside.shape[1]
    return _Window(
        torch.cat([beside, window.clean], 1),
        torch.cat([beside, window.base], 1),
        torch.cat([torch.full((extras,), cap), window.cap]),
        torch.cat([torch.zeros(extras), window.graded]),
        torch.cat([frames, window.frames]),
        window.refined,
    )


def _given(length: int, rng: np.random.Generator) -> list[int]:
    """Which of a window's latents are given."""
    way = rng.random()
    if way < 0.42:
        return []
    if way < 0.57 or length == 1:
        return [0]
    # Clips are often short, and what leads up to one at the end must be as long as what follows one at the start.
    clip = number(rng, 1, length - 1 if rng.random() < 0.5 else min(2, length - 1))
    if way < 0.72:
        return list(range(clip))
    if way < 0.84:
        return list(range(length - clip, length))
    if way < 0.94:
        return [0, length - 1]
    return [int(index) for index in rng.permutation(length)[: number(rng, 1, 3)]]


def _frames(length: int, frame: int) -> torch.Tensor:
    """First frame of each latent, as ``Denoiser`` counts them."""
    first = torch.arange(length) * FRAMES_PER_LATENT + 1 - FRAMES_PER_LATENT
    return first.clamp(min=0).float() + frame
