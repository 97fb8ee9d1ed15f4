"""What of a process that outlives its starter is no longer as it would be started now."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from farm.processes.detached import DetachedProcess, differences

WORDS = st.lists(st.sampled_from(["run", "--address=a:1", "--address=b:1", "--threads=2"]), max_size=4)
VARIABLES = st.dictionaries(
    st.sampled_from(["RAY_A", "OMP_NUM_THREADS", "HOME", "DISPLAY"]), st.sampled_from("12"), max_size=4
)


@given(WORDS, VARIABLES)
def test_nothing_differs_from_itself(command, environment):
    assert differences(command, environment, command, environment) == []


@given(WORDS, VARIABLES, WORDS, VARIABLES)
def test_a_command_that_changed_and_a_variable_that_the_farm_sets_are_told(was, was_in, now, now_in):
    found = differences(was, was_in, now, now_in)
    assert bool(found) == (was != now or any(was_in.get(name) != word for name, word in now_in.items()))


class Sleeper(DetachedProcess):
    def __init__(self, home: Path, seconds: int, variables: dict[str, str]) -> None:
        super().__init__("sleeper", home)
        self.seconds, self.told = seconds, variables

    def command(self) -> list[str]:
        return ["/bin/sleep", str(self.seconds)]

    def variables(self) -> dict[str, str]:
        return self.told

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self.told}


def test_a_process_that_was_started_with_other_settings_is_told_from_one_that_was_not(tmp_path, monkeypatch):
    sleeper = Sleeper(tmp_path, 1000, {"RAY_PORT": "1"})
    assert sleeper.outdated() == [], "nothing runs"
    sleeper.start()
    try:
        monkeypatch.setenv("DISPLAY", ":7")
        assert Sleeper(tmp_path, 1000, {"RAY_PORT": "1"}).outdated() == []
        assert Sleeper(tmp_path, 1001, {"RAY_PORT": "1"}).outdated() == ["1000 is now 1001"]
        assert Sleeper(tmp_path, 1000, {"RAY_PORT": "2"}).outdated() == ["RAY_PORT was 1, and is 2"]
        assert Sleeper(tmp_path, 1000, {"RAY_HEAD": "1"}).outdated() == ["RAY_HEAD was not set, and is 1"]
    finally:
        sleeper.stop()
