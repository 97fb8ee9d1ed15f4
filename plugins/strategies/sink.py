"""The sink: what windows are shown of what is given, the same for every strategy."""

from __future__ import annotations

from farm.planning import Anchor, ModelFacts, Sink, Timeline
from farm.timeline import Cut

SINK_STRENGTH = 1.0
"""As it is, like the "negative index latents" of ComfyUI's looping sampler and of diffusers'
LTXI2VLongMultiPromptPipeline."""


def sink_of(timeline: Timeline, model: ModelFacts, cut: Cut, chain: str | None = None) -> Sink | None:
    """What a window over `cut` that `model` denoises is shown of the clip's start; None where that is of no use to it.

    It is the first frame of what is given nearest to it, by itself, which is known before any window is; a window that
    holds any of what is given looks like that. Where nothing is given it is latent 0 of `chain`, the window that begins
    a chain and the timeline: any other latent stands for eight frames, and a clip doesn't begin with such a one.
    """
    if not model.sink_frames:
        return None
    if timeline.given:
        if any(given.lies_in(cut) for given in timeline.given):
            return None

        def apart(given: Anchor) -> int:
            return max(given.start - cut.stop, cut.start - given.stop)

        # Of those equally near the first, which is the longest.
        nearest = min(timeline.given, key=apart)
        return Sink(None, nearest.condition, nearest.first, model.sink_frames, SINK_STRENGTH)
    return Sink(chain, None, 0, model.sink_frames, SINK_STRENGTH) if chain and cut.start > 0 else None
