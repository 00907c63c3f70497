"""The event stream: notices of what changed, replayed after a lost connection."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import msgspec

from tenure.clock import ManualClock
from tenure.console.stream import KEEP, Stream
from tenure.data import tables as t
from tenure.data.state import State


def note(state: State, text: str) -> None:
    with state.begin() as conn:
        conn.execute(t.events.insert().values(endpoint=None, at_us=state.now_us(), text=text, author="a"))


async def data(events: AsyncIterator[bytes]) -> tuple[str, dict[str, object]]:
    """Return (id, notice) of the next frame that is one."""
    async for frame in events:
        lines = dict(line.split(": ", 1) for line in frame.decode().strip().splitlines() if ": " in line)
        if "data" in lines:
            return lines["id"], msgspec.json.decode(lines["data"])
    raise AssertionError("the stream ended")


def test_a_change_is_noticed_and_a_reconnecting_client_gets_what_it_missed(state: State) -> None:
    async def story() -> None:
        stream = Stream(state, ["phones"], poll_s=0.0)
        events = stream.events("")
        with anyio.fail_after(60):
            assert (await data(events))[1]["topic"] == "reset"
            note(state, "one")
            first, notice = await data(events)
            assert notice["topic"] == "events"
            await events.aclose()  # type: ignore[attr-defined]  # the connection is lost
            note(state, "two")
            again = stream.events(first)
            number, notice = await data(again)
            assert notice["topic"] == "events"
            assert number != first

    anyio.run(story)


def test_a_client_of_an_earlier_server_is_told_to_fetch_everything(state: State) -> None:
    async def story() -> None:
        with anyio.fail_after(60):
            assert (await data(Stream(state, [], poll_s=0.0).events("0badcafe-17")))[1]["topic"] == "reset"

    anyio.run(story)


def test_a_client_that_missed_too_much_is_told_to_fetch_everything(state: State) -> None:
    async def story() -> None:
        stream = Stream(state, [], poll_s=0.0)
        await stream.look()
        old = f"{stream._boot}-0"
        for n in range(KEEP + 5):
            stream._marks = {("events", ""): (n,)}
            await stream.look()
        with anyio.fail_after(60):
            assert (await data(stream.events(old)))[1]["topic"] == "reset"

    anyio.run(story)


def test_an_alarm_of_one_endpoint_names_it(state: State, clock: ManualClock) -> None:
    async def story() -> None:
        stream = Stream(state, ["phones", "notes"], poll_s=0.0)
        events = stream.events("")
        with anyio.fail_after(60):
            await data(events)
            with state.begin() as conn:
                row = dict.fromkeys(("rule", "kind", "metric", "stage", "version", "shape", "message"), "x")
                row |= {"endpoint": "notes", "state": "firing", "numbers": "{}", "actions": "[]"}
                conn.execute(t.alarms.insert().values(**row, pending_us=1, fired_us=state.now_us()))
            assert (await data(events))[1] == {"topic": "alarms", "endpoint": "notes", "id": 1}

    anyio.run(story)


def test_a_server_that_ends_ends_its_streams(state: State) -> None:
    async def story() -> None:
        stream = Stream(state, [], poll_s=3600.0)
        events = stream.events("")
        with anyio.fail_after(60):
            await data(events)
            stream.end()
            assert [frame async for frame in events] == []

    anyio.run(story)
