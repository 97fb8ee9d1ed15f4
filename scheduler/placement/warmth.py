"""How ready each device's renderer is: whether it can begin yet, and which models it holds in memory.

A guess that placement goes by, no record: it begins empty with the daemon. Loading 13B parameters takes as long as half a
window. Pure but for its own memory.
"""

from __future__ import annotations

SHARE = 0.75
"""Models stay beside each other while they fill no more than this of a device's memory (renderer.work does so)."""

STARTING_SECONDS = 5.0
"""How long a renderer that has come up imports its libraries before it can begin: 3 to 5 s on two CPU cores."""

Device = tuple[str, str]


class Warmth:
    """By device (node id, name): since when its renderer is up, the models used there since they last fitted, their bytes."""

    def __init__(self) -> None:
        self._held: dict[Device, dict[str, int]] = {}
        self._up_since: dict[Device, float] = {}

    def up(self, device: Device, now: float) -> None:
        """The device's renderer is up; it has come up at `now` (seconds of one clock) unless it was said to be before."""
        self._up_since.setdefault(device, now)

    def starting_for(self, device: Device, now: float) -> float:
        """Seconds for which the device's renderer will still be busy with starting; 0 where nothing is known of it."""
        return max(0.0, self._up_since.get(device, -STARTING_SECONDS) + STARTING_SECONDS - now)

    def of(self, device: Device) -> frozenset[str] | None:
        """Models that the device holds; None where nothing is known of it."""
        held = self._held.get(device)
        return None if held is None else frozenset(held)

    def use(self, device: Device, model: str, size: int, vram_bytes: int) -> bool:
        """The device, of `vram_bytes`, does a task with `model` of `size` bytes (0: with none); is it to be loaded?"""
        if not size:
            return False
        held = self._held.setdefault(device, {})
        cold = model not in held
        held[model] = max(size, held.get(model, 0))
        if sum(held.values()) > SHARE * vram_bytes:
            self._held[device] = {model: held[model]}
        return cold

    def lost(self, device: Device) -> None:
        """The device's renderer is gone, and what it held; the next one begins with nothing."""
        self._held[device] = {}
        self._up_since.pop(device, None)
