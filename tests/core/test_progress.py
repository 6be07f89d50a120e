"""Lines of progress for logs and pipes."""

from __future__ import annotations

import pytest

from personaplug.core.progress import ProgressLines


class Watch:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(reached: list[tuple[float, int]], total: int, note: str = "") -> list[str]:
    watch, lines = Watch(), list[str]()
    progress = ProgressLines(lines.append, "training: step", total, seconds=15, clock=watch)
    for at, done in reached:
        watch.now = at
        progress.reached(done, note)
    return lines


def test_a_long_step_says_how_far_it_is_how_it_goes_and_how_long_it_will_take():
    reached = [(2.0 * step, step) for step in range(1, 41)]
    lines = lines_of(reached, 110, "loss 3.910")
    assert lines[-1] == "training: step 40/110, loss 3.910, 2 min left"
    assert len(lines) == 5  # 80 seconds


def test_a_step_that_ends_within_seconds_writes_nothing():
    assert lines_of([(1.0, 1), (2.0, 2)], 2) == []


def test_a_resumed_step_judges_what_is_left_by_its_own_speed():
    assert lines_of([(10.0, 90), (20.0, 95)], 100) == ["training: step 95/100, 10 s left"]


@pytest.mark.parametrize(("total", "line"), [(0, "training: step 1,200"), (1_200, "training: step 1,200/1,200")])
def test_an_unknown_size_and_the_end_have_no_time_left(total, line):
    assert lines_of([(20.0, 600), (40.0, 1_200)], total)[-1] == line
