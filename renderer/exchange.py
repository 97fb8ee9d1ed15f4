"""The arrays that windows in lockstep exchange with their neighbours, in rounds (farm.rendering.TaskContext.exchange).

Each renderer keeps the arrays of all rounds, and other renderers fetch these arrays. If a window's renderer is lost,
the window begins again from its first step. The window then fetches the arrays again, while its neighbours wait. The
arrays of a finished window are also stored as an artifact, because the window's renderer may end. This module doesn't
use Ray: its callers pass an object (Peers) that asks other renderers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from farm.handed import Member
from farm.rendering import Stopped

KEPT_GROUPS = 2
"""Groups whose rounds a renderer keeps: the one in hand, and the one before, whose slowest may still ask."""

POLL_SECONDS = 0.5
"""A question that has no answer yet is held so long; a window that must stop notices after that."""

NEIGHBOUR_TIMEOUT_SECONDS = 120.0
"""A neighbour that nobody has in hand for so long won't come: the window is given back and begins anew elsewhere."""


@dataclass(frozen=True)
class NeighbourRequest:
    """A window's request for the array that a neighbouring window gives to it in one round.

    Attributes:
        group: the lockstep group of both windows.
        key: the key of the neighbour's task.
        asker: the key of the task that asks.
        round: the number of the round.
        at: the name of the renderer that asks.
    """

    group: str
    key: str
    asker: str
    round: int
    at: str


Answer = tuple[bool, np.ndarray | None]
"""Whether the member is in hand here, or was to its end; and the array, if it is there already."""


class Peers(Protocol):
    """The other renderers, which can be asked for arrays."""

    def ask(self, renderer: str, question: NeighbourRequest) -> Answer:
        """Ask the renderer named `renderer` for the array that `question` describes.

        Returns:
            A pair (known, array). `known` is True if the asked renderer is rendering the neighbouring window or has the
            array. `array` is None if the asked renderer doesn't have the array yet. If that renderer can't be reached,
            the pair is (False, None).
        """
        ...


@dataclass
class _InHand:
    """What a member gave. `in_hand`: more rounds may come; `given`: arrays by neighbour and round."""

    in_hand: bool = True
    given: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)


class Overlaps:
    """Stores the arrays that lockstep windows on this renderer give to their neighbours.

    It also records which renderer was last known to render each window of a lockstep group. Several threads may call
    its methods.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._groups: dict[str, dict[str, _InHand]] = {}
        self._places: dict[tuple[str, str], str] = {}

    def open(self, group: str, key: str, here: str, places: dict[str, str]) -> None:
        """Record that this renderer renders the window `key` of the lockstep group `group`.

        Args:
            here: this renderer's name.
            places: the name of the renderer of each neighbouring window, by the window's key. A window whose renderer
                the farm doesn't know is absent.
        """
        with self._changed:
            members = self._groups.pop(group, {})
            self._groups[group] = members
            members.setdefault(key, _InHand()).in_hand = True
            while len(self._groups) > KEPT_GROUPS:
                old = next(iter(self._groups))
                del self._groups[old]
                self._places = {at: where for at, where in self._places.items() if at[0] != old}
            self._places |= {(group, other): where for other, where in {**places, key: here}.items()}
            self._changed.notify_all()

    def close(self, group: str, key: str) -> None:
        """Record that the attempt at the window `key` has ended. The window's arrays stay available."""
        with self._changed:
            if member := self._groups.get(group, {}).get(key):
                member.in_hand = False
            self._changed.notify_all()

    def give(self, group: str, key: str, to: str, number: int, array: np.ndarray) -> None:
        """Store the `array` that the window `key` gives to its neighbour `to` in round `number`."""
        with self._changed:
            self._groups[group][key].given[to, number] = array
            self._changed.notify_all()

    def answer(self, question: NeighbourRequest, seconds: float = POLL_SECONDS) -> Answer:
        """Answer a renderer that asks for the array of a neighbouring window. Wait up to `seconds` for the array.

        Returns:
            A pair (known, array). `known` is True if this renderer is rendering the neighbouring window or has the
            array. `array` is None if this renderer doesn't have the array yet.
        """
        wanted = question.asker, question.round
        with self._changed:
            self._places[question.group, question.asker] = question.at

            def member() -> _InHand:
                nobody = _InHand(in_hand=False)
                return self._groups.get(question.group, {}).get(question.key, nobody)

            self._changed.wait_for(lambda: wanted in member().given or not member().in_hand, seconds)
            array = member().given.get(wanted)
            return array is not None or member().in_hand, array

    def place(self, group: str, key: str) -> str:
        """Return the name of the renderer that was last known to render the window `key`; "" if none is known."""
        with self._changed:
            return self._places.get((group, key), "")

    def save(self, group: str, key: str, path: Path) -> Path:
        """Write to `path` all arrays that the window `key` gave to its neighbours."""
        with self._changed:
            given = dict(self._groups[group][key].given)
        save_file(
            {f"{to}/{number}": np.ascontiguousarray(array) for (to, number), array in given.items()}, path
        )
        return path


class WaitingHold(Protocol):
    """The methods of renderer.attachment.Hold that a window's task needs while it waits for a neighbouring window."""

    def runs(self) -> bool:
        """Return whether the attempt's lease is valid now. Raises Stopped if the attempt was stopped."""
        ...

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`. Raises Stopped if the attempt was stopped."""
        ...


class Exchange:
    """Exchanges one lockstep window's arrays with its neighbours, during one attempt at the window.

    The thread that renders the window uses this class.
    """

    def __init__(
        self,
        overlaps: Overlaps,
        peers: Peers,
        hold: WaitingHold,
        member: Member,
        finished: Callable[[str], Path | None],
    ):
        """Record that this renderer renders the window of `member`.

        `finished(neighbour)` returns the file with a neighbour's arrays if the neighbour was done before this attempt
        began; otherwise None.
        """
        self._overlaps, self._peers, self._hold, self._finished = overlaps, peers, hold, finished
        self._group, self._key, self._here = member.group, member.key, member.renderer
        overlaps.open(self._group, self._key, self._here, member.places)
        self._files: dict[str, Path | None] = {}

    def __call__(self, number: int, mine: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Exchange arrays as TaskContext.exchange says.

        Raises Stopped if the attempt was stopped, or if a neighbour's renderer can't be found.
        """
        for key, array in mine.items():
            self._overlaps.give(self._group, self._key, key, number, array)
        return {key: self._theirs(key, number) for key in mine}

    def close(self) -> None:
        """Record that the attempt has ended. The window's arrays stay available."""
        self._overlaps.close(self._group, self._key)

    def save(self, path: Path) -> Path:
        """Write to `path` all arrays that the window gave to its neighbours, as an artifact of the window."""
        return self._overlaps.save(self._group, self._key, path)

    def _theirs(self, key: str, number: int) -> np.ndarray:
        if key not in self._files:
            self._files[key] = self._finished(key)
        if path := self._files[key]:
            with safe_open(path, "numpy") as file:
                return file.get_tensor(f"{self._key}/{number}")
        question = NeighbourRequest(self._group, key, self._key, number, self._here)
        heard = time.monotonic()
        while True:
            known, array = self._ask(question)
            if array is not None:
                return array
            # Without a lease the farm can't have given the neighbour to anybody whom this one would know of.
            if known or not self._hold.runs():
                heard = time.monotonic()
            elif time.monotonic() - heard > NEIGHBOUR_TIMEOUT_SECONDS:
                raise Stopped(
                    f"the renderer of the neighbouring window {key} could not be found within "
                    f"{NEIGHBOUR_TIMEOUT_SECONDS:.0f} s"
                )
            self._hold.pause(0.0 if known else 0.1)

    def _ask(self, question: NeighbourRequest) -> Answer:
        place = self._overlaps.place(question.group, question.key)
        if place and place != self._here:
            known, array = self._peers.ask(place, question)
            if known:
                return known, array
        # Whoever has it now may not have been heard of: what was made here earlier is as good.
        return self._overlaps.answer(question, POLL_SECONDS if place == self._here else 0.0)
