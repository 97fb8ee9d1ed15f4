"""How warm each device's renderer is: whether it has finished starting, and which models are in its memory.

Placement uses this because loading takes long: loading a model of 13B parameters takes as long as rendering half a
window. The daemon guesses this state from the tasks that it dispatches, and from the starts and ends of renderers.
The state is kept only in the daemon's memory, so it is empty when the daemon starts.
"""

from __future__ import annotations

SHARE = 0.75
"""Models stay beside each other while they fill no more than this of a device's memory (renderer.work does so)."""

STARTING_SECONDS = 5.0
"""How long a renderer that has come up imports its libraries before it can begin: 3 to 5 s on two CPU cores."""

Device = tuple[str, str]


class Warmth:
    """Tracks when each device's renderer started, and which models that renderer has loaded.

    A device is a pair: node id and device name. A renderer keeps its models loaded until together they fill more than
    SHARE of the device's memory (a fraction). Then the renderer keeps only the model that it used last.
    """

    def __init__(self) -> None:
        self._held: dict[Device, dict[str, int]] = {}
        self._up_since: dict[Device, float] = {}

    def up(self, device: Device, now: float) -> None:
        """Record that the device's renderer started at `now` (in seconds), unless its start is already recorded."""
        self._up_since.setdefault(device, now)

    def starting_for(self, device: Device, now: float) -> float:
        """Return how many more seconds the device's renderer needs to start; 0 if nothing is known of the renderer."""
        return max(0.0, self._up_since.get(device, -STARTING_SECONDS) + STARTING_SECONDS - now)

    def of(self, device: Device) -> frozenset[str] | None:
        """Return the models that are in the device's memory; None if nothing is known of the device."""
        held = self._held.get(device)
        return None if held is None else frozenset(held)

    def use(self, device: Device, model: str, size: int, vram_bytes: int) -> bool:
        """Record that the device does a task with `model`. Return whether the device must load the model first.

        Args:
            device: Node id and device name.
            model: The task's model.
            size: The size of the model in bytes; 0 for a task without a model.
            vram_bytes: The memory of the device in bytes.
        """
        if not size:
            return False
        held = self._held.setdefault(device, {})
        cold = model not in held
        held[model] = max(size, held.get(model, 0))
        if sum(held.values()) > SHARE * vram_bytes:
            self._held[device] = {model: held[model]}
        return cold

    def lost(self, device: Device) -> None:
        """Record that the device's renderer has ended. The next renderer starts without any loaded model."""
        self._held[device] = {}
        self._up_since.pop(device, None)
