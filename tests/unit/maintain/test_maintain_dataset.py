"""A snapshot holds what was judged, never changes, and has one id per content."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from maintain_world import LABELS, World, add_judged
from PIL import Image as Pillow

from tenure.data import tables as t
from tenure.deploy.review.items import NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.errors import ConflictError, StoreError
from tenure.maintain.dataset import Payload, build_snapshot
from tenure.maintain.snapshot import Snapshot, open_snapshot
from tenure.scope.project import EndpointSpec, Output
from tenure.types import Box


def nothing(_: str) -> None:
    return None


def freeze(world: World, payload: Payload = nothing, **more: object) -> Snapshot:
    settings = {"since_us": 0, "now_us": world.state.now_us(), **more}
    with world.state.begin() as conn:
        return build_snapshot(conn, "phones", world.data, payload=payload, **settings)  # type: ignore[arg-type]


def png(shade: int) -> bytes:
    out = io.BytesIO()
    Pillow.new("L", (4, 4), shade).save(out, "PNG")
    return out.getvalue()


def photos(world: World, n: int, judge: Callable[[int], str], *, start: int = 0, **fields: object) -> None:
    """Judge `n` photos through leases, as a person does, with a box on each defect."""
    queue = ReviewQueue(
        world.state, {"phones": EndpointSpec(input="image", output=Output(labels=LABELS, regions="box"))}
    )
    for i in range(start, start + n):
        world.clock.advance(1.0)
        base = {"kind": "uncertain", "media_type": "image/png", "created_us": world.state.now_us()}
        with world.state.begin() as conn:
            queue.add(conn, [NewItem(id=f"p{i}", endpoint="phones", **{**base, **fields})])  # type: ignore[arg-type]
        (lease,) = queue.lease("ann")
        label = judge(i)
        boxes = [Box(0, 0, 2, 2, "scratch")] if label == "defect" else []
        queue.submit(lease.item, reader="ann", token=lease.token, value=label, regions=boxes, key=lease.token)


def test_rows_carry_truth_input_unit_and_weight(world: World) -> None:
    photos(world, 4, lambda i: LABELS[i % 2], kind="audit", audit_prob=0.25, unit="line", level="partial")
    made = freeze(world, lambda id_: ("image/png", png(int(id_[1:]))))
    rows = list(made.rows())
    assert [r.label for r in rows] == ["good", "defect", "good", "defect"]
    assert rows[1].boxes == (Box(0, 0, 2, 2, "scratch"),)
    assert {(r.weight, r.unit, r.kind, r.source, r.blind) for r in rows} == {
        (4.0, "line", "audit", "single", True)
    }
    assert [(made.path / str(r.file)).read_bytes() for r in rows] == [png(i) for i in range(4)]
    assert rows[0].media_type == "image/png"


def test_how_photos_are_decoded_goes_along_with_them(world: World) -> None:
    photos(world, 4, lambda i: LABELS[i % 2])
    plain, small = (freeze(world, lambda _: ("image/png", png(7)), min_side=n) for n in (0, 256))
    assert small.manifest.min_side == 256
    assert open_snapshot(small.path).manifest.min_side == 256
    assert "min_side" not in (plain.path / "manifest.json").read_text()
    assert small.id != plain.id


def test_the_same_content_has_the_same_id_whenever_and_wherever_it_is_frozen(
    world: World, tmp_path: Path
) -> None:
    world.judged(30)
    first = freeze(world)
    world.clock.advance(1000.0)
    again = freeze(world)
    assert (again.id, again.path, again.manifest.created_us) == (
        first.id, first.path, first.manifest.created_us,
    )  # fmt: skip
    world.data = tmp_path / "elsewhere"
    assert freeze(world).sha == first.sha
    with world.state.read() as conn:
        assert conn.execute(sa.select(t.snapshots.c.id, t.snapshots.c.sha)).all() == [(first.id, first.sha)]


def test_another_label_is_another_id(world: World) -> None:
    world.judged(30)
    first = freeze(world)
    world.judged(1, start=30)
    assert freeze(world).id != first.id


def test_items_whose_input_is_gone_are_named(world: World) -> None:
    photos(world, 5, lambda _: "good")
    kept = {"p0", "p2", "p3"}
    made = freeze(world, lambda id_: ("image/png", png(int(id_[1:]))) if id_ in kept else None)
    assert {m.id for m in made.manifest.missing} == {"p1", "p4"}
    assert made.manifest.rows == 3
    with pytest.raises(ConflictError, match="none of 5 judged items"):
        freeze(world)


def test_nothing_judged_is_said(world: World) -> None:
    with pytest.raises(ConflictError, match="no resolved judgement"):
        freeze(world)


def test_one_picture_sent_twice_is_one_row_that_stands_for_both(world: World) -> None:
    photos(world, 10, lambda _: "good")
    made = freeze(world, lambda id_: ("image/png", png(0 if id_ in ("p0", "p9") else int(id_[1:]))))
    rows = {r.id: r for r in made.rows()}
    assert len(rows) == 9
    assert (rows["p0"].copies, rows["p0"].weight, made.manifest.merged) == (2, 2.0, 1)


def test_one_picture_with_two_truths_stays_two_rows_of_one_part(world: World) -> None:
    photos(world, 10, lambda i: LABELS[i == 9])
    made = freeze(world, lambda id_: ("image/png", png(0 if id_ in ("p0", "p9") else int(id_[1:]))))
    rows = {r.id: r for r in made.rows()}
    assert rows["p0"].file == rows["p9"].file
    assert rows["p0"].split == rows["p9"].split == "train"
    assert (made.manifest.test, made.manifest.merged, made.manifest.contradictions) == (2, 0, 1)


def test_only_what_came_since_is_taken(world: World) -> None:
    world.judged(10)
    since = world.state.now_us()
    assert freeze(world, since_us=since).manifest.rows == 1


def test_a_person_who_saw_the_answer_or_an_unsure_case_is_not_fair(world: World) -> None:
    add = [("a00001", {}), ("b00002", {"blind": False}), ("c00003", {"level": "partial"})]
    add += [("d00004", {"level": "partial", "lottery": True, "kind": "audit", "audit_prob": 0.1})]
    for id_, fields in add:
        add_judged(world.state, world.clock, [id_], **fields)
    rows = {r.id[0]: r for r in freeze(world).rows()}
    assert {k: r.fair for k, r in rows.items()} == {"a": True, "b": False, "c": False, "d": True}
    assert {k: r.weight for k, r in rows.items()} == {"a": 1.0, "b": 1.0, "c": 1.0, "d": 10.0}


def test_an_unknown_chance_is_left_out_and_named(world: World) -> None:
    add_judged(world.state, world.clock, ["a00001"])
    add_judged(world.state, world.clock, ["b00002"], kind="audit", audit_prob=0.0)
    (missing,) = freeze(world).manifest.missing
    assert (missing.id, missing.why) == ("b00002", "its chance of being judged is unknown")


@pytest.mark.parametrize("how", ["change", "add", "remove", "manifest"])
def test_a_changed_snapshot_is_not_opened_and_is_made_again(world: World, how: str) -> None:
    world.judged(10)
    made = freeze(world)
    index, manifest = made.path / "index.jsonl", made.path / "manifest.json"
    if how == "change":
        index.chmod(0o644)
        index.write_bytes(index.read_bytes().replace(b"good", b"evil"))
    elif how == "add":
        (made.path / "more.txt").write_text("x")
    elif how == "remove":
        index.unlink()
    else:
        text = msgspec.json.decode(manifest.read_bytes())
        manifest.chmod(0o644)
        manifest.write_bytes(msgspec.json.encode({**text, "rows": 11}))
    with pytest.raises(StoreError):
        open_snapshot(made.path)
    assert freeze(world).sha == open_snapshot(made.path).sha == made.sha
    assert [p.name for p in made.path.parent.iterdir()] == [made.id]


def test_a_judgement_with_the_suggestion_shown_is_never_blind_truth(world: World) -> None:
    photos(world, 3, lambda _: "good", blind=False, level="assist")
    photos(world, 2, lambda _: "good", blind=False, level="assist", start=3)
    rows = list(freeze(world, lambda id_: ("image/png", png(int(id_[1:])))).rows())
    assert {(r.blind, r.shown_suggestion, r.fair, r.readers) for r in rows} == {(False, True, False, 1)}


def test_an_outcome_of_the_world_stands_on_no_reading(world: World) -> None:
    world.judged(3)
    rows = list(freeze(world).rows())
    assert {(r.source, r.blind, r.shown_suggestion, r.readers) for r in rows} == {("outcome", False, False, 0)}


def test_what_the_model_said_and_what_was_decided_go_along(world: World) -> None:
    photos(world, 1, lambda _: "good", level="assist", version="v1", blind=False, pending=True)
    with world.state.begin() as conn:
        said = {"item": "p0", "version": "v1", "role": "primary", "value": '"defect"', "confidence": 0.7}
        conn.execute(t.item_predictions.insert().values(**said, regions="[]", automated=0, at_us=1))
    (row,) = freeze(world, lambda _: ("image/png", png(1))).rows()
    assert (row.version, row.predicted, row.confidence) == ("v1", "defect", 0.7)
    assert (row.decision, row.decided_by) == ("good", "person")


def test_only_what_came_before_is_taken(world: World) -> None:
    world.judged(10)
    until = world.state.now_us()
    assert freeze(world, until_us=until).manifest.rows == 9
