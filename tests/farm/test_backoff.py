from __future__ import annotations

from farm.backoff import Backoff


def test_waits_double_up_to_the_longest_and_begin_again_after_a_reset():
    waits = Backoff(0.25, 3.0)
    assert [waits.next() for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0]
    waits.reset()
    assert [waits.next() for _ in range(2)] == [0.25, 0.5]
