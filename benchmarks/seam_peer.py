"""diffusers' LTXI2VLongMultiPromptPipeline on the same takes, for `seams.py run` to put beside the farm.

Fair to both sides means here:

- The same weights in float32, the same sigmas and Euler sampler, no guidance; everything else as the pipeline has it
  by default. Its `num_inference_steps` would make one call too few, so it is given the sigmas.
- Windows as long as the farm's longest, with the same overlap; its last is shorter where the farm's are balanced.
- It can't take a clip, so takes with one begin with the scene's first frame instead, held at strength 1 as the
  farm's images are. It adds that frame to every window as a sink, as it always does.
- It masks no padding of the prompt. The checkpoint was trained with masks, so it is given exactly as many tokens as
  there are: its embeddings are then the farm's.
- Of timed prompts a window sees one, that of its middle frame: it has one for each window and fades none into the next,
  so all changes are at seams of its.
- Its latents are decoded like the farm's, undivided: its own decoding in 4 x 4 tiles is no matter of windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from diffusers import LTXI2VLongMultiPromptPipeline
from diffusers.pipelines.ltx.pipeline_ltx_i2v_long_multi_prompt import split_into_temporal_windows
from diffusers.utils import logging
from PIL import Image
from seam_jobs import positions_of
from seam_statistics import Seam
from seam_takes import FPS, Take

from farm.model_facts import ModelFacts
from farm.timeline import SPATIAL, TEMPORAL, Cut, cut_windows, frame_span, latents_for
from plugins.ltx.loading import Ltx
from plugins.ltx.vae import decode
from scheduler.planning.windows import seams

LEAST_OVERLAP = 3
"""With less, the pipeline's videos come out at another length (docs/ltx.md, trap 3)."""


def windows_of(take: Take, window: int, overlap: int) -> list[Cut]:
    """Its windows in latents: as long as the farm's longest, the last one shorter.

    Raises ValueError for an overlap or a size that it can't do.
    """
    if any(side % SPATIAL for side in take.size):
        raise ValueError(
            f"--size: {take.size[0]}x{take.size[1]}; the stock pipeline needs multiples of {SPATIAL}"
        )
    latents = latents_for(take.frames)
    if overlap < LEAST_OVERLAP:
        raise ValueError(f"--overlap: {overlap}; the stock pipeline needs {LEAST_OVERLAP} latents or more")
    longest = max(map(len, cut_windows(latents, window, overlap)))
    return [Cut(*ends) for ends in split_into_temporal_windows(latents, longest, overlap, TEMPORAL)]


def seams_of(windows: Sequence[Cut]) -> list[Seam]:
    """Positions at which its windows hand over: it drops each window's first latent and fades over the rest."""
    return [positions_of(seam) for seam in seams(windows)]


def prompts_of(take: Take, windows: Sequence[Cut]) -> list[str]:
    """What each window is asked for."""
    return [take.prompts[take.turn(sum(frame_span(one.start, one.stop)) // 2)] for one in windows]


def fades_of(take: Take, windows: Sequence[Cut]) -> list[Seam]:
    """The positions at which one prompt gives way to the next, with a latent on either side as the farm's have."""
    asked = prompts_of(take, windows)
    return [
        Seam(max(2, seam.first - TEMPORAL), seam.last + TEMPORAL)
        for seam, (before, after) in zip(seams_of(windows), pairwise(asked), strict=True)
        if before != after
    ]


class Peer:
    """The pipeline, loaded once."""

    def __init__(self, source: str, model: ModelFacts):
        self._ltx = Ltx(source, max_tokens=model.text_tokens)
        said = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            # It would rather have ComfyUI's ancestral sampler; the farm's is Euler's.
            self._pipeline = LTXI2VLongMultiPromptPipeline(
                scheduler=self._ltx.scheduler,
                vae=self._ltx.vae,
                text_encoder=self._ltx.text_encoder,
                tokenizer=self._ltx.tokenizer,
                transformer=self._ltx.transformer,
            )
        finally:
            logging.set_verbosity(said)
        self._pipeline.set_progress_bar_config(disable=True)

    def render(self, take: Take, windows: Sequence[Cut], overlap: int, sigmas: Sequence[float]) -> np.ndarray:
        """The take's frames, uint8 RGB [F, H, W, 3]."""
        latents = latents_for(take.frames)
        image = None if take.given == "text" else Image.fromarray(take.scene.render(0, 1)[0])
        asked = prompts_of(take, windows)
        # One number for all of them, which is why their captions differ in single words.
        (tokens,) = {len(self._ltx.tokenizer(text).input_ids) for text in asked}
        made = self._pipeline(
            prompt=asked,
            width=take.size[0],
            height=take.size[1],
            num_frames=TEMPORAL * (latents - 1) + 1,
            frame_rate=FPS,
            sigmas=list(sigmas),
            seed=take.noise,
            cond_image=image,
            cond_strength=1.0,
            temporal_tile_size=TEMPORAL * len(windows[0]),
            temporal_overlap=TEMPORAL * overlap,
            max_sequence_length=min(tokens, self._ltx.max_tokens),
            output_type="latent",
        ).frames
        if made.shape[2] != latents:
            raise RuntimeError(f"the stock pipeline made {made.shape[2]} latents, not {latents}")
        with torch.no_grad():
            return decode(self._ltx, made[0])[: take.frames]
