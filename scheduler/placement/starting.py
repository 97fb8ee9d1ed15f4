"""Keeps track of renderers that were requested from Ray and aren't up yet.

It says when to request a renderer again, and what to tell people meanwhile. It also says when to restart a raylet,
Ray's process on a node. The state is kept in memory only, so it is empty when the daemon starts. Otherwise this module
is pure: no clock, no I/O.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

AGAIN_SECONDS = 5.0
"""The time between two requests for a renderer that isn't up yet."""

SLOW_SECONDS = 30.0
"""A renderer comes up in 3 to 15 s; for one that takes longer than this there is something to say."""

RENEW_SECONDS = 90.0
"""A raylet that has started no renderer for so long is made anew. Each further time takes twice as long."""

GIVEN_UP_SECONDS = 15.0
"""The same where Ray's head has given the raylet up and sends it nothing more: it hung, or its machine slept too long."""

LONGEST_SECONDS = 3600.0

_TOLD = ((3600, "an hour"), (1800, "half an hour"), (600, "10 minutes"), (300, "5 minutes"), (120, "2 minutes"), (60, "a minute"), (30, "half a minute"))  # fmt: skip
"""Told in steps: it stands beside every task that waits for it, and is written anew whenever it changes."""

NODE_GONE = "Ray no longer has this node, so it starts no renderer there"
"""The bridge's message if Ray's head has given up a node's raylet, and so refuses to start a renderer there."""

_GIVEN_UP = (NODE_GONE, "because its node has died")
"""Words of messages about a raylet that Ray's head has given up. The second ones are Ray's own."""

Device = tuple[str, str]
"""Node id and device."""


@dataclass
class _Wait:
    """`since`: when the backend took a request that has led to no renderer yet; None if it took none."""

    asked: float
    since: float | None = None
    heard: str = ""
    blamed_at: float = 0.0


class Starting:
    """The renderers that the daemon waits for, by device."""

    def __init__(self) -> None:
        self._waits: dict[Device, _Wait] = {}
        self._patience: dict[Device, float] = {}

    def up(self, device: Device) -> None:
        """Record that the device's renderer is up."""
        self._waits.pop(device, None)
        self._patience.pop(device, None)

    def unwanted(self, device: Device) -> None:
        """Record that no renderer is wanted on the device now.

        The farm restarts a device's raylet (Ray's process there) if no renderer starts within some time. Every restart
        doubles this time. The method `up` sets it back to its first value; this method doesn't.
        """
        self._waits.pop(device, None)

    def asks(self, device: Device, now: float) -> bool:
        """Return whether to request the device's renderer at `now` (in seconds), for the first time or again.

        Call this method only while the renderer isn't up. If the result is True, request the renderer at once, because
        the request is recorded as made.
        """
        wait = self._waits.get(device)
        if wait is None:
            self._waits[device] = _Wait(now)
            return True
        if now - wait.asked < AGAIN_SECONDS:
            return False
        wait.asked = now
        return True

    def taken(self, device: Device, now: float) -> None:
        """Record that Ray accepted, at `now`, the request to start the device's renderer.

        The time that Ray takes to start the renderer is counted from the first accepted request.
        """
        wait = self._waits[device]
        if wait.since is None:
            wait.since = wait.blamed_at = now

    def not_taken(self, device: Device) -> None:
        """Record that Ray didn't accept the request to start the renderer.

        The device's raylet isn't blamed for this, because it may not know of the request.
        """
        self._waits[device].since = None

    def heard(self, device: Device, words: str) -> bool:
        """Record Ray's message about a renderer that didn't start or has died.

        Returns whether the message is new. It isn't new if it differs from the last message only in numbers.
        """
        wait = self._waits.get(device)
        short = in_short(words)
        if wait is None or _without_numbers(wait.heard) == _without_numbers(short):
            return False
        wait.heard = short
        return True

    def trouble(self, device: Device, now: float) -> str:
        """Return why the renderer isn't up at `now`; "" if nothing is wrong.

        The text can follow the words "has no renderer up: ".
        """
        wait = self._waits.get(device)
        if wait is None or wait.since is None:
            return ""
        waited = now - wait.since
        told = next((words for seconds, words in _TOLD if waited >= seconds), "")
        if _given_up(wait.heard):
            return "Ray's head gave up on this machine, because it did not answer"
        if wait.heard:
            return f"Ray said: {wait.heard}"
        return f"Ray was asked for one more than {told} ago, and has started none" if told else ""

    def blames(self, device: Device, now: float) -> bool:
        """Return whether to restart the device's raylet (Ray's process there) at `now`.

        If the result is True, the method has already recorded the restart as made, so restart the raylet at once.
        """
        wait = self._waits.get(device)
        if wait is None or wait.since is None:
            return False
        patience = self._patience.get(device, GIVEN_UP_SECONDS if _given_up(wait.heard) else RENEW_SECONDS)
        if now - wait.blamed_at < patience:
            return False
        self._patience[device] = min(2 * patience, LONGEST_SECONDS)
        wait.blamed_at = now
        return True


def in_short(words: str) -> str:
    """Return Ray's message in one line, without its ids, which mean nothing to people."""
    lines = [line.strip() for line in words.splitlines() if line.strip() and not line[0].isspace()]
    text = re.sub(r"(?:[A-Z]\w* I[dD]: )?\b[0-9a-f]{16,}\b\.?", "", " ".join(lines) or words.strip())
    return textwrap.shorten(text, 300, placeholder=" …")


def _given_up(words: str) -> bool:
    return any(said in words for said in _GIVEN_UP)


def _without_numbers(words: str) -> str:
    return re.sub(r"\d+", "", words)
