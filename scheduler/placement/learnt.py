"""Notes for people whose job renders at a size for which the model isn't trained. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from farm.model_facts import LearntSizes, ModelFacts
from farm.plan import TaskKind
from farm.planning import Window
from farm.timeline import SPATIAL


def size_notes(windows: Sequence[Window], model: ModelFacts, drawer: ModelFacts) -> list[str]:
    """Return a sentence for each model that renders windows at a size for which the model isn't trained.

    The rendered size of a window may differ from the size of the delivered video.

    Args:
        windows: The windows of the job.
        model: The job's model.
        drawer: The model that draws the storyboard (the small draft with which some jobs begin). This may be the job's
            model too.
    """
    notes = []
    for facts in {one.name: one for one in (model, drawer)}.values():
        own = [window for window in windows if (window.model or model.name) == facts.name]
        sizes: dict[tuple[int, int], str] = {}
        # The video's size first: a storyboard of the same size isn't worth a word of its own.
        for window in sorted(own, key=_is_storyboard):
            sizes.setdefault((window.width, window.height), " (storyboard)" if _is_storyboard(window) else "")
        if facts.learnt and (
            outside := {size: of for size, of in sizes.items() if not facts.learnt.hold(*size)}
        ):
            where = " and ".join(f"{width}x{height}{of}" for (width, height), of in outside.items())
            notes.append(
                f"model: {facts.name} is made for sizes {_range(facts.learnt)}; at {where} its pictures "
                f"{facts.learnt.elsewhere}; choose another size or another model"
            )
    return notes


def _is_storyboard(window: Window) -> bool:
    return window.kind is TaskKind.STORYBOARD


def _range(learnt: LearntSizes) -> str:
    width, height = learnt.largest
    low = f"from {learnt.least}x{learnt.least} to" if learnt.least > SPATIAL else "up to"
    return f"{low} {width}x{height}"
