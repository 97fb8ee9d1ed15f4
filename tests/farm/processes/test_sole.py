from __future__ import annotations

import pytest

from farm.processes.sole import HomeInUse, sole_process


def test_a_home_is_held_by_one_and_free_after_it(tmp_path):
    home = tmp_path / "home"
    with sole_process(home, "a.lock", "another runs"):
        with pytest.raises(HomeInUse, match="another runs"), sole_process(home, "a.lock", "another runs"):
            pass
        with sole_process(home, "b.lock", "another runs"):
            pass
    with sole_process(home, "a.lock", "another runs"):
        pass
    assert home.stat().st_mode & 0o777 == 0o700
