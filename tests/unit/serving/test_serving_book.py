"""The book of decisions: the first one stands, waiters wake, memory is bounded."""

from __future__ import annotations

import asyncio

from tenure.deploy.serving.predict.book import Book, boxes_of
from tenure.types import Answer, Box, Decision

FIRST, SECOND = Decision("good", "person"), Decision("bad", "fallback")
PENDING = Answer("id", "pending")


def test_the_first_decision_stands() -> None:
    book = Book()
    book.decided((1, 1), FIRST)
    book.decided((1, 1), SECOND)
    assert book.decision((1, 1)) is FIRST


def test_everybody_who_waits_gets_it_and_nothing_is_left_behind() -> None:
    async def work() -> None:
        book = Book()
        waiting = [asyncio.create_task(book.wait((1, 1), 10)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        book.decided((1, 1), FIRST)
        assert await asyncio.gather(*waiting[1:]) == [FIRST, FIRST]
        assert await book.wait((1, 1), 10) is FIRST
        assert await book.wait((1, 2), 0.001) is None
        assert book._waiting == {}

    asyncio.run(work())


def test_release_lets_all_waiters_go_and_later_ones_at_once() -> None:
    async def work() -> None:
        book = Book()
        waiting = asyncio.create_task(book.wait((1, 1), 60))
        await asyncio.sleep(0)
        book.release()
        assert await waiting is None
        assert await book.wait((1, 2), 60) is None
        book.decided((1, 2), FIRST)
        assert await book.wait((1, 2), 60) is FIRST

    asyncio.run(work())


def test_memory_is_bounded_and_the_newest_are_kept() -> None:
    book = Book(size=2)
    for seq in range(4):
        book.answered((1, seq), "e", PENDING, deadline_ns=0)
        book.decided((1, seq), FIRST)
    assert [book.answer((1, s)) is not None for s in range(4)] == [False, False, True, True]
    assert [book.decision((1, s)) is not None for s in range(4)] == [False, False, True, True]


def test_boxes_ignore_keys_of_later_formats() -> None:
    logged = [{"x1": 1, "y1": 2, "x2": 3, "y2": 4, "label": "crack", "colour": "red"}]
    assert boxes_of(logged) == (Box(1, 2, 3, 4, "crack"),)
    assert boxes_of(None) == ()
