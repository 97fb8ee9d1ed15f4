"""Choose the sink of a window: a frame that the model sees together with the window.

The sink makes the window look like the rest of the video. All strategies choose sinks in the same way.
"""

from __future__ import annotations

from farm.model_facts import ModelFacts
from farm.planning import Anchor, Sink, Timeline
from farm.timeline import Cut

SINK_STRENGTH = 1.0
"""The sink is held as it is, like the "negative index latents" of ComfyUI's looping sampler and of diffusers'
LTXI2VLongMultiPromptPipeline."""


def sink_of(timeline: Timeline, model: ModelFacts, cut: Cut, chain: str | None = None) -> Sink | None:
    """Return the sink of a window: a frame that the model sees together with the window.

    If the user gave images or clips at strength 1, the sink is the first frame of the image or clip nearest to the
    window. If the user gave none, the sink is the first frame of the window at the start of the timeline. That window
    itself then has no sink.

    Args:
        timeline: the job's timeline.
        model: the model that denoises the window.
        cut: the latents that the window covers.
        chain: the key of the window at the start of the timeline. None: a window has a sink only if the user gave
            images or clips at strength 1.

    Returns:
        The sink. None in these cases:

        - The model doesn't use sinks.
        - The window contains an image or clip given at strength 1.
        - The user gave no image or clip at strength 1, and either the window is at the start of the timeline, or
          `chain` is None.
    """
    # The sink is always a latent that stands for a single frame, the first. Any other latent stands for eight frames,
    # and a clip doesn't begin with such a latent.
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
