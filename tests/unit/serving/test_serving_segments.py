"""Each segment is ruled on by its own policy: as if the endpoint had no other cases, through whichever door."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_world import World, ask

from tenure.deploy import segments
from tenure.deploy.router import Endpoint, Policy
from tenure.model.columns import Rows
from tenure.scope.project import Automation, EndpointSpec, Field, Output, Segments, SegmentSpec
from tenure.types import Level

LABELS = Output(labels=("big", "small"))
NAMES = ("A", "B", "C")
FIELDS = {"a": Field(type="float"), "line": Field(type="category", values=(*NAMES, "D"), required=False)}


def spec(by: str, names: tuple[str, ...] = NAMES, fields: dict[str, Field] = FIELDS) -> EndpointSpec:
    listed = Segments(by=by, values=dict.fromkeys(names, SegmentSpec()))
    return EndpointSpec(input="record", fields=fields, output=LABELS, automation=Automation(segments=listed))


IGNORED = ("run", "t_ns", "t", "latency_us", "queue_us", "stage_us_size", "segment", "frame", "row", "schema_id")


def policy(rng: random.Random, number: int, segment: str = "") -> Policy:
    """Return a policy of any kind."""
    level = rng.choice(list(Level))
    thresholds = {"m@1": rng.choice([{"*": rng.random()}, {"big": rng.random()}, {}])}
    lapses = rng.choice([0, 0, 1])
    return Policy(
        number, level, thresholds if level >= Level.PARTIAL else {}, audit=rng.choice([0.0, 0.5]),
        blind=rng.random(), valid_until_ns=lapses, salt="e", segment=segment,
    )  # fmt: skip


def logged(world: World, cases: list[tuple[dict[str, Any], str | None]], *, many: bool) -> list[dict[str, Any]]:
    """Send cases and return their rows without what time and place decide."""

    async def work() -> None:
        core = await world.ready(world.core())
        if many:
            items, units = [dict(item) for item, _ in cases], [unit for _, unit in cases]
            checked: list[Any] = [core.desks["e"].schema.check_record(item) for item in items]
            await core.predict_many("", "e", checked, units=units)
        else:
            bodies = [(msgspec.json.encode(item), unit) for item, unit in cases]
            await asyncio.gather(*(core.predict(ask(body=body, unit=unit)) for body, unit in bodies))

    asyncio.run(work())
    rows = [{k: v for k, v in row.items() if k not in IGNORED} for row in world.rows()]
    world.close()
    return rows


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("by", ["line", "unit"])
def test_a_segment_is_decided_as_on_an_endpoint_that_has_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, seed: int
) -> None:
    """The same (run, seq) draw the same, so every column of the log can be compared."""
    monkeypatch.setattr("tenure.deploy.serving.predict.journal.fresh_u64", lambda: 77)
    rng = random.Random(seed)
    others = {name: policy(rng, i, name) for i, name in enumerate(NAMES, 2)}
    route = Endpoint("m@1", policy(rng, 1), segments=others)
    cases: list[tuple[dict[str, Any], str | None]] = []
    for _ in range(24):
        where = rng.choice([*NAMES, "D", None])
        record = {"a": rng.uniform(-4, 4)} | ({"line": where} if by == "line" and where else {})
        cases.append((record, where if by == "unit" else None))
    (tmp_path / "all").mkdir()
    world = World(tmp_path / "all", spec=spec(by))
    world.publish(route)
    found = {row["seq"]: row for row in logged(world, cases, many=False)}
    for name, own in {"": route.policy, **others}.items():
        (tmp_path / f"only-{name}").mkdir()
        plain = World(tmp_path / f"only-{name}", spec=msgspec.structs.replace(spec(by), automation=Automation()))
        plain.publish(Endpoint("m@1", own))
        alone = {row["seq"]: row for row in logged(plain, cases, many=True)}
        mine = [seq for seq, row in found.items() if row["policy"] == own.id]
        listed = {"A", "B", "C"}
        said = [(c[0].get("line") if by == "line" else c[1]) for c in cases]
        assert len(mine) == sum(s == name if name else s not in listed for s in said)
        assert [found[seq] for seq in mine] == [alone[seq] for seq in mine]


KINDS = {
    "int": (("1", "-3", "40"), st.one_of(st.none(), st.sampled_from([1, -3, 40, 0, 7]))),
    "bool": (("true",), st.one_of(st.none(), st.booleans())),
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_records_packed_records_and_rows_are_of_the_same_segment(kind: str, data: st.DataObject) -> None:
    names, drawn = KINDS[kind]
    values = data.draw(st.lists(drawn, min_size=1, max_size=5))
    fields = {"a": Field(type="float"), "z": Field(type=kind, nullable=True)}  # type: ignore[arg-type]
    reader = segments.Reader(spec("z", names, fields))
    spelled = {name: name for name in names}
    expected = [spelled.get("" if v is None else str(v).lower(), "") for v in values]
    assert [reader.of({"a": 0.5, "z": v}, "A") for v in values] == expected
    assert [reader.of((0.5, v), "A") for v in values] == expected
    floats = [[0.5, np.nan if v is None else float(v)] for v in values]
    assert [reader.of((a, None if z != z else z), None) for a, z in floats] == expected
    rows = Rows(("a", "z"), ("float", kind), np.array(floats))
    assert reader.of_rows(rows, None) == (expected[0] if len(set(expected)) == 1 else None)


def test_what_is_no_record_has_the_segment_of_its_unit() -> None:
    listed = Segments(by="unit", values={"line 3": SegmentSpec()})
    image = EndpointSpec(input="image", automation=Automation(segments=listed))
    reader = segments.Reader(image)
    assert [reader.of(object(), unit) for unit in ("line 3", "line 4", None)] == ["line 3", "", ""]
    by_field = segments.Reader(spec("line"))
    assert by_field.of("a text", "A") == by_field.of(None, None) == by_field.of({"a": 1.0}, "A") == ""
    assert by_field.of({"line": ["A"]}, None) == ""
    assert segments.reader_of(EndpointSpec(input="image")) is None


def test_a_field_called_unit_is_the_field() -> None:
    fields = {"a": Field(type="float"), "unit": Field(type="text")}
    reader = segments.Reader(spec("unit", fields=fields))
    assert reader.of({"a": 1.0, "unit": "A"}, "B") == "A"
