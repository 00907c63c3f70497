"""No unit trains and tests, and the test is never older than its cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenure.maintain.split import MOST, grouped, split

rows = st.lists(
    st.tuples(st.integers(0, 30), st.lists(st.sampled_from("abcdefgh"), max_size=2)), min_size=1, max_size=40
)


@given(rows, st.floats(0.0, 0.99))
def test_no_unit_is_in_both_parts_and_no_test_row_is_older_than_the_cut(
    made: list[tuple[int, list[str]]], share: float
) -> None:
    times, keys = [time for time, _ in made], [unit for _, unit in made]
    found = split(times, keys, test_share=share)
    sides = {"train": set[str](), "test": set[str]()}
    for part, unit in zip(found.parts, keys, strict=True):
        sides[part].update(unit)
    assert not sides["train"] & sides["test"]
    test = [time for time, part in zip(times, found.parts, strict=True) if part == "test"]
    train = [time for time, part in zip(times, found.parts, strict=True) if part == "train"]
    assert len(test) <= MOST * share * len(times)
    if found.cut_us is None:
        assert not test
    else:
        assert min(test) == found.cut_us
        assert found.late == sum(time >= found.cut_us for time in train)


@given(rows, st.floats(0.0, 0.99), st.randoms())
def test_the_order_of_the_rows_changes_nothing(
    made: list[tuple[int, list[str]]], share: float, random: object
) -> None:
    order = list(range(len(made)))
    random.shuffle(order)  # type: ignore[attr-defined]
    straight = split([t for t, _ in made], [k for _, k in made], test_share=share)
    mixed = split([made[i][0] for i in order], [made[i][1] for i in order], test_share=share)
    assert [straight.parts[i] for i in order] == list(mixed.parts)


def test_the_newest_fifth_tests_where_each_row_stands_alone() -> None:
    found = split(list(range(100)), [[] for _ in range(100)], test_share=0.2)
    assert found.parts == ("train",) * 80 + ("test",) * 20
    assert (found.cut_us, found.late) == (80, 0)


def test_four_lines_leave_no_test() -> None:
    found = split(list(range(100)), [[i % 4] for i in range(100)], test_share=0.1)
    assert "test" not in found.parts
    assert found.cut_us is None


def test_a_unit_that_began_before_the_cut_trains_whole_and_is_counted() -> None:
    keys = [["old"] if i in (0, 99) else [i] for i in range(100)]
    found = split(list(range(100)), keys, test_share=0.2)
    assert found.parts[0] == found.parts[99] == "train"
    assert found.late == 1


def test_a_chain_of_shared_keys_is_one_group() -> None:
    assert grouped([["a", "b"], ["c"], ["b", "d"], ["d", "c"], []]) == [[0, 1, 2, 3], [4]]


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="test_share"):
        split([1], [[]], test_share=share)
