"""The sink: a frame that windows without given frames are shown. The rule is the same for every strategy."""

from __future__ import annotations

from farm.planning import Anchor, ModelFacts, Sink, Timeline
from farm.timeline import Cut

SINK_STRENGTH = 1.0
"""The sink is held as it is, like the "negative index latents" of ComfyUI's looping sampler and of diffusers'
LTXI2VLongMultiPromptPipeline."""


def sink_of(timeline: Timeline, model: ModelFacts, cut: Cut, chain: str | None = None) -> Sink | None:
    """Return the sink of the window that `model` denoises at `cut`; None where a sink is of no use.

    The sink is the first frame, by itself, of the given media nearest to the window; this frame is known before any
    window is rendered. A window that holds given frames needs no sink: it already looks like them. If nothing is
    given, the sink is latent 0 of the window `chain`, with which a chain and the timeline begin. Any other latent
    stands for eight frames, and a clip doesn't begin with such a latent.
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
