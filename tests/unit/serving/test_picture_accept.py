"""Which form a client likes best, by the rules of RFC 9110."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenure.deploy.serving.http.accept import preferred

JSON, JPEG, PNG = OFFERS = ("application/json", "image/jpeg", "image/png")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/json", JSON),
        ("image/jpeg", JPEG),
        ("IMAGE/PNG", PNG),
        ("image/*", JPEG),
        ("image/png, image/*;q=0.5", PNG),
        ("image/png, */*", PNG),
        ("image/jpeg, application/json", JSON),  # equally liked and equally named: ours
        ("image/jpeg;q=0.4, image/png;q=0.40, */*;q=0.1", JPEG),
        ("image/jpeg;q=0.4, image/png;q=0.41", PNG),
        ("image/png; q = 0.3, application/json;q=0.2", PNG),
        ("image/jpeg;q=0, */*", JSON),
        ("application/json;q=0, image/*;q=0.1", JPEG),
        ("image/*;q=0, image/png;q=0.2", PNG),  # the closer range counts, not the first
        ("image/png;level=1;q=0.2, image/jpeg;q=0.1", PNG),
        ("text/html", None),
        ("image/webp, text/*;q=0.9", None),
        ("*/*;q=0", None),
        ("image/png;q=2, image/jpeg", JPEG),  # what is not well formed is not there
        ("image/png;q=nan", JSON),
        ("nonsense", JSON),
        ("/, a/, /b, ;;;,", JSON),
    ],
)
def test_quality_then_closeness_then_our_order_decide(accept: str, wanted: str | None) -> None:
    assert preferred(accept, OFFERS) == wanted


@given(st.text(max_size=60))
def test_no_header_is_a_fault(accept: str) -> None:
    assert preferred(accept, OFFERS) in (*OFFERS, None)
