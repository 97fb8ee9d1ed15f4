"""The encode task, which runs once for each job: it turns prompts into embeddings, and images and clips into latents.

Each clip is read only once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from farm.media.clips import iter_frames, probe
from farm.outside_text import shown
from farm.plan import EMBEDDINGS, LATENTS, EncodeTask, JobPart, condition_name, media_name
from farm.rendering import TaskContext
from plugins.ltx.encoder import ClipEncoder, stretches
from plugins.ltx.latents import save_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.options import LtxOptions, Padding
from plugins.ltx.text import cut_off, encode_prompt, unknown, unread
from plugins.ltx.vae import encode_clip

_MOST_WORDS = 300
"""Most characters of an unread text that a note repeats."""


def encode(ltx: Ltx, task: TaskContext) -> dict[str, Path]:
    """Encode a job's prompts, and its conditions: the images and clips given with the job.

    One file holds the embeddings of all prompts; the negative prompt comes last, if it is used. The other files hold
    the latents of each condition, at each size that the job needs.

    Returns:
        A dict from artifact name to file.
    """
    lengths = [media.before + media.frames + media.after for media in task.job.conditions]
    total, done = 1 + sum(lengths), 1
    task.step(0, total)
    made = {EMBEDDINGS: task.folder / "embeddings.safetensors"}
    save_file(_text(ltx, task), made[EMBEDDINGS])
    if ltx.device != "cpu":
        # The text encoder is the largest part by far and has done all it will do for this job.
        ltx.release("text_encoder")
    for index, length in enumerate(lengths):
        for frames in _media(ltx, task, index, length, made):
            done += frames
            task.step(min(done, total), total)
    return made


def _text(ltx: Ltx, task: TaskContext) -> dict[str, torch.Tensor]:
    negative = [task.job.negative_prompt] if EncodeTask.of(task.payload).negative else []
    texts = [*task.job.prompts, *negative]
    names = _names(len(task.job.prompts), len(texts))
    notes = [
        f"{name}: the model's text encoder doesn't know '{shown(strange, _MOST_WORDS)}', so this part of the "
        "prompt has no meaning for the model; write prompts in English"
        for name, text in zip(names, texts, strict=True)
        if (strange := unknown(ltx, text))
    ]
    if cut := cut_off(ltx, texts):
        # One that holds throughout stands first, so it may leave no room for what is to change.
        some = ", ".join(f"{index + 1} ({length} tokens)" for index, length in cut.items())
        task.report(
            f"the model reads {ltx.max_tokens} tokens of a prompt; the end of these is not seen: {some}",
            {
                "prompts_cut": [[index, length] for index, length in cut.items()],
                "notes": [_cut_note(ltx, texts[index], names[index]) for index in cut] + notes,
            },
        )
    elif notes:
        task.report("the text encoder doesn't know all of the prompts", {"notes": notes})
    embeds, mask = encode_prompt(ltx, texts)
    # Every window fetches them, and most of a short prompt is padding that nothing attends to.
    length = int(mask.sum(1).max())
    return {"embeds": embeds[:, :length].cpu().contiguous(), "mask": mask[:, :length].cpu().contiguous()}


def _names(prompts: int, texts: int) -> list[str]:
    """Return what notes call each text: the prompts, and the negative prompt if there is one text more."""
    numbered = [f"prompt {number + 1}" for number in range(prompts)] if prompts > 1 else ["prompt"]
    return [*numbered, "negative_prompt"][:texts]


def _cut_note(ltx: Ltx, text: str, name: str) -> str:
    """Return a note with the words of a text that the text encoder doesn't read."""
    words = shown(unread(ltx, text), _MOST_WORDS)
    return f"{name}: the model reads at most {ltx.max_tokens} tokens of a prompt, so it doesn't see '{words}'"


def _media(ltx: Ltx, task: TaskContext, index: int, length: int, made: dict[str, Path]) -> Iterator[int]:
    """Encodes one condition at every size, adds its files to ``made``, and yields as it goes how many frames of its
    ``length`` it has done."""
    job, media, told = task.job, task.job.conditions[index], EncodeTask.of(task.payload)
    full_size = job.render_width, job.render_height
    source = index == job.source
    # The video that the job is made over takes the storyboard's place and is not wanted any smaller.
    sizes = [full_size] if source else list(told.sizes)
    encoders = {size: ClipEncoder(ltx) for size in sizes}
    latents: dict[tuple[int, int], list[torch.Tensor]] = {size: [] for size in sizes}
    points = (
        {} if source else {point - media.frame - job.lead + media.before: point for point in media.points}
    )
    frames, at = _padded(task, index), 0
    for count in stretches(length, max(w * h for w, h in sizes), told.pixels):
        stretch = np.stack(list(islice(frames, count)))
        for size in sizes:
            small = _resize(stretch, *size)
            latents[size].append(encoders[size].add(small).cpu())
            for place in range(at, at + count):
                if place in points:
                    # Alone it is a latent of one frame, as the model was shown keyframes.
                    alone = encode_clip(ltx, small[place - at : place - at + 1])
                    name = condition_name(index, size[0], size[1], points[place])
                    made[name] = _save(ltx, task, name, alone, -(-points[place] // 8))
        at += count
        yield count
    for size in sizes:
        name = LATENTS if source else condition_name(index, size[0], size[1])
        made[name] = _save(ltx, task, name, torch.cat(latents[size], dim=1), media.start)


def _save(ltx: Ltx, task: TaskContext, name: str, latents: torch.Tensor, start: int) -> Path:
    return save_latents(task.folder / f"{name.replace('/', '-')}.safetensors", latents, start, ltx.dtype)


def _padded(task: TaskContext, index: int) -> Iterator[np.ndarray]:
    """Return the media's frames [render height, render width, 3], with the first and last repeated as planned.

    With padding "edge" they are uint8: the media at the delivered size, and its edges repeated around that. With
    padding "grey" they are float32 from -1 to 1, as Lightricks' pipeline makes them: grey around the media at its own
    size, and all of that scaled to the size of rendering.
    """
    job, media = task.job, task.job.conditions[index]
    # A plan made by an earlier version numbers its conditions as they were listed.
    clip = task.fetch("", media_name(index if media.listed is None else media.listed))
    options = LtxOptions.model_validate(job.options.get("model", {}))
    grey = options.padding is Padding.GREY
    width, height = job.width, job.height
    if grey:
        facts = probe(clip)
        width, height = facts.width, facts.height
    frames = islice(iter_frames(clip, width, height, job.frame_rate), media.frames)
    first = last = None
    for frame in frames:
        last = _in_grey(job, frame) if grey else np.pad(frame, (*_around(job), (0, 0)), mode="edge")
        if first is None:
            first = last
            yield from repeat(first, media.before)
        yield last
    if last is not None:
        yield from repeat(last, media.after)


def _around(job: JobPart) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return how many lines are rendered above and below the delivered picture, and columns left and right of it."""
    left, top = job.crop.left, job.crop.top
    return (top, job.render_height - job.height - top), (left, job.render_width - job.width - left)


def _in_grey(job: JobPart, frame: np.ndarray) -> np.ndarray:
    """Return a uint8 frame of any size, with grey around it, at the size of rendering: float32 [h, w, 3] from -1 to 1.

    Source: LTX-Video, inference.py, load_media_file, and pipeline_ltx_video.py, resize_tensor.
    """
    size = job.render_height, job.render_width
    pixels = torch.from_numpy(np.pad(frame.astype(np.float32) / 127.5 - 1.0, (*_around(job), (0, 0))))
    if pixels.shape[:2] != size:
        pixels = F.interpolate(pixels.permute(2, 0, 1)[None], size=size, mode="bilinear")[0].permute(1, 2, 0)
    return pixels.numpy()


def _resize(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return frames [F, H, W, 3], uint8 or float32, at another size, averaged where they shrink."""
    if frames.shape[1:3] == (height, width):
        return frames
    resized = torch.stack(
        [
            F.interpolate(
                torch.from_numpy(frame).permute(2, 0, 1)[None].float(),
                size=(height, width),
                mode="bilinear",
                antialias=True,
            )[0]
            for frame in frames
        ]
    )
    if frames.dtype == np.uint8:
        resized = resized.round().clamp(0, 255).to(torch.uint8)
    return resized.permute(0, 2, 3, 1).contiguous().numpy()
