"""The peer's side of `versus.py`: diffusers' LTXI2VLongMultiPromptPipeline, as somebody would use it instead."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import LTXI2VLongMultiPromptPipeline
from diffusers.pipelines.ltx.pipeline_ltx_i2v_long_multi_prompt import split_into_temporal_windows
from diffusers.utils import logging
from PIL import Image
from seam_peer import seams_of
from seam_takes import FPS
from versus_farm import Timed, counter
from versus_jobs import RATE, Asked, Picture

from farm.timeline import TEMPORAL, Cut, frame_span, frames_of, latents_for
from plugins.ltx.sigmas import linear_quadratic
from plugins.outputs.mp4 import encode_segment

TILE_FRAMES, OVERLAP_FRAMES = 80, 24
"""Its defaults."""

STEPS = 8

TILES = 1
"""Spatial tiles a side that it decodes in. Its default of 4, for small GPUs, takes twice as long."""


class Peer:
    """The pipeline, loaded once, in this process."""

    def __init__(self, source: str, threads: int):
        said = logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            # It would rather have ComfyUI's ancestral sampler; the farm's is Euler's.
            self._pipeline = LTXI2VLongMultiPromptPipeline.from_pretrained(
                source, dtype=torch.float32, local_files_only=True
            )
        finally:
            logging.set_verbosity(said)
        self._threads = threads
        self._denoising = 0.0
        # Its one use of a bar is the denoising loop of a window.
        self._pipeline.progress_bar = self._clocked

    def make(self, asked: Asked, output: Path) -> Timed:
        """Make the job's video in ``output``."""
        begun, before = time.monotonic(), self._denoising
        frames = self._run(asked, output_type="np")[0][: asked.frames]
        # As diffusers' export_to_video turns them to bytes, but encoded as the farm encodes.
        pictures = ((frame * 255).astype(np.uint8) for frame in frames)
        encode_segment(pictures, output, *asked.size, RATE, threads=self._threads)
        return Timed(time.monotonic() - begun, self._denoising - before)

    def counted(self, asked: Asked) -> tuple[int, Picture]:
        """FLOPs of the transformer for the job, and its video."""
        flops, transformer = 0, self._pipeline.transformer
        forward = transformer.forward

        def counting(*arguments: Any, **named: Any) -> Any:
            nonlocal flops
            with counter() as counts:
                answer = forward(*arguments, **named)
            flops += counts.get_total_flops()
            return answer

        transformer.forward = counting
        try:
            shown = self._run(asked, output_type="np")[0][: asked.frames]
        finally:
            del transformer.forward
        windows = windows_of(asked.frames)
        texts, seams = prompts_of(asked, windows), seams_of(windows)
        changes = [seam for seam, (left, right) in zip(seams, pairwise(texts), strict=True) if left != right]
        frames = np.stack([(frame * 255).astype(np.uint8) for frame in shown])
        return flops, Picture(frames, tuple(seams), tuple(changes))

    def _run(self, asked: Asked, output_type: str) -> Any:
        windows = windows_of(asked.frames)
        texts = prompts_of(asked, windows)
        # It masks no padding, which the checkpoint never saw, and takes one length for all prompts.
        (tokens,) = {len(self._pipeline.tokenizer(text).input_ids) for text in texts}
        return self._pipeline(
            prompt=texts[0],
            prompt_segments=[
                {"start_window": number, "end_window": number, "text": text}
                for number, text in enumerate(texts)
            ],
            width=asked.size[0],
            height=asked.size[1],
            num_frames=frames_of(latents_for(asked.frames)),
            frame_rate=FPS,
            # Its num_inference_steps would make one call too few.
            sigmas=linear_quadratic(STEPS),
            seed=asked.case.fields["seed"],
            cond_image=Image.fromarray(asked.given[0]),
            cond_strength=1.0,
            temporal_tile_size=TILE_FRAMES,
            temporal_overlap=OVERLAP_FRAMES,
            max_sequence_length=tokens,
            decode_horizontal_tiles=TILES,
            decode_vertical_tiles=TILES,
            output_type=output_type,
        ).frames

    def _clocked(self, steps: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        begun = time.monotonic()
        yield from steps
        self._denoising += time.monotonic() - begun


def windows_of(frames: int) -> list[Cut]:
    """Its windows in latents."""
    tile, overlap = TILE_FRAMES // TEMPORAL, OVERLAP_FRAMES // TEMPORAL
    return [Cut(*ends) for ends in split_into_temporal_windows(latents_for(frames), tile, overlap, TEMPORAL)]


def prompts_of(asked: Asked, windows: Sequence[Cut]) -> list[str]:
    """The prompt of each window: the one that most of the frames ask for that are seen from this window.

    A window fades into the next within the latents that they share, all but the first of which it drops; it is seen
    to the middle of that fade. Frames within a cross-fade ask for nothing.
    """
    overlap = OVERLAP_FRAMES // TEMPORAL
    edges = [0, *(window.start + 1 + (overlap - 1) // 2 for window in windows[1:]), windows[-1].stop]
    texts: list[str] = []
    for start, stop in pairwise(edges):
        first, last = frame_span(start, stop)
        wanted = Counter(filter(None, map(asked.prompt_at, range(first, min(last, asked.frames)))))
        # Only a window that lies within a cross-fade altogether has none; it goes on as before.
        texts.append(max(wanted, key=wanted.__getitem__) if wanted else texts[-1])
    return texts
