"""Who hangs: a number that stands still while the watcher itself ran."""

from __future__ import annotations

from tenure.deploy.serving.processes.pulse import Pulse

S = 1_000_000_000


def looks(pulse: Pulse, values: list[int], *, every_s: float = 1.0, start_s: float = 100.0) -> list[bool]:
    return [pulse.stopped(v, int((start_s + i * every_s) * S)) for i, v in enumerate(values)]


def test_a_number_that_moves_in_any_direction_is_alive() -> None:
    assert not any(looks(Pulse(3.0), [5, 6, 4, 7, 1, 2, 9, 8]))


def test_a_number_that_stands_still_beyond_the_limit_has_stopped() -> None:
    assert looks(Pulse(3.0), [5, 6, 6, 6, 6, 6]) == [False, False, False, False, False, True]


def test_time_in_which_the_watcher_itself_did_not_run_counts_for_nobody() -> None:
    pulse = Pulse(3.0)
    looks(pulse, [5, 5, 5])
    assert not pulse.stopped(5, 500 * S), "the machine was suspended: the number could not move either"
    assert looks(pulse, [5, 5, 5, 5], start_s=501.0) == [False, False, False, True]


def test_another_process_gets_the_whole_time() -> None:
    pulse = Pulse(3.0)
    looks(pulse, [5, 5, 5, 5])
    pulse.reset()
    assert looks(pulse, [5, 5, 5, 5], start_s=104.0) == [False] * 4
