"""Typed scalars: what is read, what is refused, and that spelling reads back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenure.scope.units import Unit, parse, spell

D, S, P, R, A, N, C = (
    Unit.DURATION,
    Unit.SIZE,
    Unit.SHARE,
    Unit.RATE,
    Unit.AMOUNT,
    Unit.NUMBER,
    Unit.COUNT,
)


@pytest.mark.parametrize(
    ("unit", "text", "value"),
    [
        (D, "250ms", 0.25),
        (D, "30s", 30.0),
        (D, "1.5 h", 5400.0),
        (D, "7d", 604800.0),
        (D, "0", 0.0),
        (S, "8MB", 8_000_000),
        (S, "8MiB", 8_388_608),
        (S, "20GB", 20_000_000_000),
        (S, "512 B", 512),
        (P, "5%", 0.05),
        (P, "0.05", 0.05),
        (P, "all", 1.0),
        (P, "none", 0.0),
        (P, "100 %", 1.0),
        (R, "1 per 30d", 2_592_000.0),
        (R, "2 per 1d", 43_200.0),
        (A, "2%", 0.02),
        (A, "-50", -50.0),
        (N, "1e3", 1000.0),
        (C, "010", 10),
    ],
)
def test_reads(unit: Unit, text: str, value: float) -> None:
    assert parse(unit, text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("unit", "text", "says"),
    [
        (D, "30", "say the unit"),
        (D, "30sec", "a duration such as"),
        (D, "-3s", "a duration such as"),
        (D, "1:30", "got 1:30"),
        (S, "8", "say the unit"),
        (S, "8mb", "a size such as"),
        (P, "5", "write 5% if percent is meant"),
        (P, "105%", "from 0 to 1"),
        (P, "-0.1", "from 0 to 1"),
        (R, "30d", "1 per 30d"),
        (R, "0 per 30d", "1 per 30d"),
        (N, ".nan", "a number"),
        (N, ".inf", "a number"),
        (N, "1_000", "a number"),
        (C, "-1", "a whole number"),
        (C, "2.5", "a whole number"),
        (C, "9" * 400, "a whole number"),
        (D, "9" * 400 + "d", "a duration"),
    ],
)
def test_refuses_and_says_what_was_expected(unit: Unit, text: str, says: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse(unit, text)
    assert says in str(caught.value)


@given(st.sampled_from([D, S, P, R]), st.integers(1, 10**9))
def test_spelling_reads_back(unit: Unit, raw: int) -> None:
    value = raw / 10**9 if unit is P else float(raw)
    assert parse(unit, spell(unit, value)) == pytest.approx(value, rel=1e-9)


@given(st.sampled_from(list(Unit)), st.text(max_size=30))
def test_any_text_is_a_value_or_a_value_error(unit: Unit, text: str) -> None:
    try:
        value = parse(unit, text)
    except ValueError:
        return
    assert parse(unit, spell(unit, value)) == pytest.approx(value, rel=1e-9, abs=1e-9)


def test_defaults_are_spelled_as_people_write_them() -> None:
    said = [spell(D, 600.0), spell(D, 0.0), spell(D, 7 * 86400.0), spell(D, 0.2), spell(S, 2**23), spell(P, 0.1)]
    assert said == ["10m", "0", "7d", "200ms", "8MiB", "10%"]
