"""What windows in lockstep give each other: it arrives, is kept for whoever begins again, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from farm.handed import Member
from farm.rendering import Stopped
from renderer import exchange as room
from renderer.exchange import Exchange, NeighbourRequest, Overlaps


class Holding:
    """An attempt in hand. `lease`: whether it lasts."""

    def __init__(self, lease: bool = True):
        self.lease, self.stopped = lease, ""

    def runs(self) -> bool:
        if self.stopped:
            raise Stopped(self.stopped)
        return self.lease

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)
        self.runs()


class Renderers(dict[str, Overlaps]):
    """Renderers by name, each reached unless it is cut off."""

    def __init__(self) -> None:
        self.cut: set[str] = set()
        self.asked = 0

    def ask(self, renderer: str, question: NeighbourRequest):
        self.asked += 1
        if renderer in self.cut or renderer not in self:
            return False, None
        return self[renderer].answer(question, 0.05)


@pytest.fixture
def renderers() -> Renderers:
    found = Renderers()
    found |= {"here": Overlaps(), "there": Overlaps(), "elsewhere": Overlaps()}
    return found


def member(renderers, key, at, places=None, hold=None, files=None) -> Exchange:
    told = Member("job/window", key, at, places or {})
    return Exchange(renderers[at], renderers, hold or Holding(), told, (files or {}).get)


def array(number: float) -> np.ndarray:
    return np.full((2, 3, 1, 1), number, np.float32)


def beside(work, *arguments) -> tuple[threading.Thread, list]:
    """Runs it beside the test; its answer, or what it raised, goes to the list."""
    said: list = []

    def run() -> None:
        try:
            said.append(work(*arguments))
        except Stopped as stopped:
            said.append(stopped)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, said


@pytest.mark.parametrize("place", ["here", "there"])
def test_neighbours_get_each_others_arrays_wherever_they_are(renderers, place):
    left = member(renderers, "window/0", "here", {"window/1": place})
    right = member(renderers, "window/1", place, {"window/0": "here"})
    for number in range(3):
        thread, said = beside(left, number, {"window/1": array(number)})
        assert right(number, {"window/0": array(10 + number)})["window/0"][0, 0, 0, 0] == number
        thread.join(5)
        assert said[0]["window/1"][0, 0, 0, 0] == 10 + number


def test_one_that_begins_again_elsewhere_catches_up_and_its_neighbour_learns_where_it_is(renderers):
    left = member(renderers, "window/0", "here", {"window/1": "there"})
    right = member(renderers, "window/1", "there", {"window/0": "here"})
    thread, _ = beside(left, 0, {"window/1": array(0)})
    right(0, {"window/0": array(10)})
    thread.join(5)
    renderers.cut.add("there")
    thread, said = beside(left, 1, {"window/1": array(1)})
    again = member(renderers, "window/1", "elsewhere", {"window/0": "here"})
    assert again(0, {"window/0": array(10)})["window/0"][0, 0, 0, 0] == 0
    assert not said, "it waits at the round it had reached"
    assert again(1, {"window/0": array(11)})["window/0"][0, 0, 0, 0] == 1
    thread.join(5)
    assert said[0]["window/1"][0, 0, 0, 0] == 11


def test_what_a_finished_window_gave_comes_from_its_artifact(renderers, tmp_path: Path):
    done = member(renderers, "window/0", "there")
    thread, _ = beside(done, 0, {"window/1": array(5)})
    late = member(renderers, "window/1", "here", {"window/0": "there"})
    late(0, {"window/0": array(6)})
    thread.join(5)
    done.close()
    path = done.save(tmp_path / "exchange.safetensors")
    del renderers["there"]
    again = member(renderers, "window/1", "elsewhere", files={"window/0": path})
    assert again(0, {"window/0": array(6)})["window/0"][0, 0, 0, 0] == 5


def test_a_neighbour_that_is_nowhere_is_given_up_after_a_while_but_not_without_a_lease(
    renderers, monkeypatch
):
    monkeypatch.setattr(room, "NEIGHBOUR_TIMEOUT_SECONDS", 0.3)
    hold = Holding(lease=False)
    thread, said = beside(member(renderers, "window/0", "here", hold=hold), 0, {"window/1": array(0)})
    thread.join(0.8)
    assert thread.is_alive(), "a daemon that is away can't give the neighbour to anybody"
    hold.lease = True
    thread.join(5)
    assert "window/1 could not be found" in str(said[0])


def test_one_that_is_told_to_stop_does_so_while_it_waits(renderers):
    hold = Holding()
    member(renderers, "window/1", "there")
    waiting = member(renderers, "window/0", "here", {"window/1": "there"}, hold)
    thread, said = beside(waiting, 0, {"window/1": array(0)})
    time.sleep(0.2)
    hold.stopped = "the job was cancelled"
    thread.join(5)
    assert str(said[0]) == "the job was cancelled"


def test_a_neighbour_that_is_slow_is_waited_for(renderers, monkeypatch):
    monkeypatch.setattr(room, "NEIGHBOUR_TIMEOUT_SECONDS", 0.2)
    slow = member(renderers, "window/1", "there")
    quick = member(renderers, "window/0", "here", {"window/1": "there"})
    thread, said = beside(quick, 0, {"window/1": array(0)})
    time.sleep(0.6)
    assert thread.is_alive()
    slow(0, {"window/0": array(1)})
    thread.join(5)
    assert said[0]["window/1"][0, 0, 0, 0] == 1


def test_a_renderer_keeps_the_last_groups_and_forgets_older_ones():
    overlaps = Overlaps()
    for job in ("a", "b", "c"):
        overlaps.open(job, "window/0", "here", {"window/1": "there"})
        overlaps.give(job, "window/0", "window/1", 0, array(1))
        overlaps.close(job, "window/0")
    known = {
        job: overlaps.answer(NeighbourRequest(job, "window/0", "window/1", 0, "there"), 0)[0] for job in "abc"
    }
    assert known == {"a": False, "b": True, "c": True}
    assert overlaps.answer(NeighbourRequest("c", "window/0", "window/1", 1, "there"), 0) == (False, None)
