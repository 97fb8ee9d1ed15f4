"""How warm each device's renderer is: whether it can begin yet, and which models it holds in memory.

Placement uses this guess; it is no record and begins empty with the daemon. Loading 13B parameters takes as long as
half a window. Pure but for its own memory.
"""

from __future__ import annotations

SHARE = 0.75
"""Models stay beside each other while they fill no more than this of a device's memory (renderer.work does so)."""

STARTING_SECONDS = 5.0
"""How long a renderer that has come up imports its libraries before it can begin: 3 to 5 s on two CPU cores."""

Device = tuple[str, str]


class Warmth:
    """What is known of each device (node id, name): since when its renderer is up, and which models it holds.

    The models are those used there since they last fitted together into its memory, with their bytes.
    """

    def __init__(self) -> None:
        self._held: dict[Device, dict[str, int]] = {}
        self._up_since: dict[Device, float] = {}

    def up(self, device: Device, now: float) -> None:
        """Record that the device's renderer is up; it came up at `now` (in seconds) if it was not up before."""
        self._up_since.setdefault(device, now)

    def starting_for(self, device: Device, now: float) -> float:
        """Return for how many more seconds the device's renderer is busy starting; 0 if nothing is known of it."""
        return max(0.0, self._up_since.get(device, -STARTING_SECONDS) + STARTING_SECONDS - now)

    def of(self, device: Device) -> frozenset[str] | None:
        """Return the models that the device holds; None if nothing is known of it."""
        held = self._held.get(device)
        return None if held is None else frozenset(held)

    def use(self, device: Device, model: str, size: int, vram_bytes: int) -> bool:
        """Record that the device does a task with `model`, and return whether it has to load the model first.

        `size` is the model's size in bytes (0 for a task without a model), `vram_bytes` the device's memory.
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
        """Record that the device's renderer is gone with all that it held; the next renderer begins with nothing."""
        self._held[device] = {}
        self._up_since.pop(device, None)
