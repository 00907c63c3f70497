"""What other tools labelled goes through the queue's rules, once; what we hand out can be read back."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from maintain_world import LABELS, World
from PIL import Image as Pillow

from tenure.data import tables as t
from tenure.data.masking import NOTHING
from tenure.deploy.review.items import ItemPrediction, NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.errors import CaseError
from tenure.maintain.exchange import coco, gather, label_studio, lines, taking
from tenure.maintain.exchange.entry import Out, Taken
from tenure.scope.project import EndpointSpec, Output
from tenure.types import Box

OUTPUT = Output(labels=LABELS, regions="box")
BOX = Box(1, 2, 3.5, 4, "scratch")


def png(_: str) -> tuple[str, bytes]:
    out = io.BytesIO()
    Pillow.new("L", (8, 5), 9).save(out, "PNG")
    return "image/png", out.getvalue()


@pytest.fixture
def queue(world: World) -> ReviewQueue:
    made = ReviewQueue(world.state, {"phones": EndpointSpec(input="image", output=OUTPUT)})
    base = {"kind": "uncertain", "media_type": "image/png", "level": "assist", "version": "v1"}
    with world.state.begin() as conn:
        items = [
            NewItem(id=f"p{n}", endpoint="phones", created_us=n, blind=n == 0, **base)  # type: ignore[arg-type]
            for n in range(3)
        ]
        made.add(conn, items)
        said = [
            ItemPrediction(item=f"p{n}", version="v1", role="primary", value="defect", at_us=n, regions=(BOX,))
            for n in range(3)
        ]
        made.add_predictions(conn, said)
    return made


def outs(world: World, tmp_path: Path, *, resolved: bool = False) -> list[Out]:
    with world.state.read() as conn:
        items = gather.select(conn, "phones", open_=not resolved, resolved=resolved, since_us=0)
    found = list(gather.outs(items, tmp_path / "out", png, mask=NOTHING))
    assert all(isinstance(one, Out) for one in found)
    return found  # type: ignore[return-value]


def tasks(world: World, tmp_path: Path) -> list[dict[str, Any]]:
    return [label_studio.task(one, "image", OUTPUT, prefix="/f/") for one in outs(world, tmp_path)]


def annotated(one: dict[str, Any], number: int, value: str = "defect", **more: Any) -> dict[str, Any]:
    result = label_studio.results(value, (BOX,) if value == "defect" else (), OUTPUT, (8, 5))
    done = {"id": number, "completed_by": 7, "lead_time": 4.5, "result": result, "updated_at": "2026-05-01"}
    return {**one, "annotations": [{**done, **more}]}


def taken(world: World, queue: ReviewQueue, found: Sequence[Taken]) -> taking.Report:
    return taking.take(world.state, queue, "phones", found)


def judgements(world: World) -> list[Any]:
    j = t.judgements.c
    with world.state.read() as conn:
        return list(conn.execute(sa.select(j.item, j.reader, j.blind, j.seconds).order_by(j.id)).all())


def test_a_suggestion_goes_along_only_where_a_reader_may_see_it(
    world: World, queue: ReviewQueue, tmp_path: Path
) -> None:
    found = tasks(world, tmp_path)
    assert [("predictions" in one, one["meta"]["shown_suggestion"]) for one in found] == [
        (False, False), (True, True), (True, True),
    ]  # fmt: skip
    rectangle = found[1]["predictions"][0]["result"][1]
    assert rectangle["value"]["x"] == pytest.approx(12.5)
    assert (tmp_path / "out" / "media" / "p1.png").is_file()


def test_label_studio_judgements_are_stored_once_with_their_blindness(
    world: World, queue: ReviewQueue, tmp_path: Path
) -> None:
    done = [annotated(one, n) for n, one in enumerate(tasks(world, tmp_path)[:2])]
    found = list(label_studio.read(done, OUTPUT, name="f.json"))
    first, again = taken(world, queue, found), taken(world, queue, found)
    assert (first.read, first.stored, first.known, first.refused) == (2, 2, 0, {})
    assert (again.read, again.stored, again.known, again.refused) == (2, 0, 2, {})
    assert judgements(world) == [("p0", "label_studio:7", 1, 4.5), ("p1", "label_studio:7", 0, 4.5)]


def test_the_short_form_says_the_same(world: World, queue: ReviewQueue, tmp_path: Path) -> None:
    one = tasks(world, tmp_path)[0]
    rectangle = label_studio.results(None, (BOX,), OUTPUT, (8, 5))[0]
    flat = {**rectangle["value"], "original_width": 8, "original_height": 5}
    short = {
        **one["data"], "label": "defect", "boxes": [flat], "annotator": 7, "annotation_id": 0, "lead_time": 4.5,
        "updated_at": "2026-05-01",
    }  # fmt: skip
    (a,), (b,) = (list(label_studio.read([x], OUTPUT, name="f.json")) for x in (short, annotated(one, 0)))
    assert (a.item, a.reader, a.value, a.regions, a.key, a.shown) == (
        b.item, b.reader, b.value, b.regions, b.key, b.shown,
    )  # fmt: skip
    assert a.regions == (BOX,)


def test_the_queue_refuses_by_its_own_rules(world: World, queue: ReviewQueue) -> None:
    (lease,) = queue.lease("ann")
    at = {"reader": "x:1", "at": "f", "value": "good"}
    found = [
        Taken(item=lease.item, key="a", **at),  # type: ignore[arg-type]
        Taken(item="nobody", key="b", **at),  # type: ignore[arg-type]
        Taken(item="p2", key="c", **{**at, "value": "cat"}),  # type: ignore[arg-type]
        Taken(item="p2", key="d", **at),  # type: ignore[arg-type]
        Taken(item="p2", key="e", **at),  # type: ignore[arg-type]
    ]
    report = taken(world, queue, found)
    assert report.refused == {"invalid_label": 1, "judged_already": 1, "leased": 1, "not_found": 1}
    assert (report.read, report.stored, len(report.faults)) == (5, 1, 4)


def test_an_import_never_settles_a_conflict(world: World, queue: ReviewQueue) -> None:
    found = [Taken(item="p2", reader=f"x:{i}", value=LABELS[i], key=str(i), at="f", shown=False) for i in (0, 1)]
    assert taken(world, queue, found).stored == 2
    third = Taken(item="p2", reader="x:3", value="good", key="3", at="f", shown=False)
    assert taken(world, queue, [third]).refused == {"not_waiting": 1}


def resolve(world: World, queue: ReviewQueue) -> None:
    for n in range(3):
        for reader in ("x:1", "x:2"):
            one = Taken(
                item=f"p{n}",
                reader=reader,
                value="defect",
                key=f"{reader}{n}",
                at="f",
                regions=(BOX,),
                shown=False,
            )
            taken(world, queue, [one])


def test_coco_comes_back_as_it_went(world: World, queue: ReviewQueue, tmp_path: Path) -> None:
    resolve(world, queue)
    said = coco.dataset(outs(world, tmp_path, resolved=True))
    back = list(coco.read(json.loads(json.dumps(said)), name="a.json", reader="bob"))
    assert [(b.item, b.value, b.regions) for b in back] == [(f"p{n}", "defect", (BOX,)) for n in range(3)]
    assert said["images"][0]["tenure"]["weight"] == 1.0
    bare = {**said, "images": [{k: v for k, v in i.items() if k != "tenure"} for i in said["images"]]}
    with pytest.raises(CaseError, match=r"a.json.images\[0\]: which answer"):
        list(coco.read(bare, name="a.json", reader="bob"))
    named = coco.read(bare, name="a.json", reader="bob", with_boxes="defect", without_boxes="good")
    assert [(b.item, b.value) for b in named] == [(f"p{n}", "defect") for n in range(3)]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_our_own_lines_come_back_as_known(world: World, queue: ReviewQueue, tmp_path: Path, form: str) -> None:
    one = Taken(item="p2", reader="bob", value="good", key="k", at="f", shown=True)
    assert taken(world, queue, [one]).stored == 1
    records = list(lines.records(outs(world, tmp_path)))
    path = tmp_path / f"f.{form}"
    write, read = {
        "jsonl": (lines.write_jsonl, lines.read_jsonl), "parquet": (lines.write_parquet, lines.read_parquet),
    }[form]  # fmt: skip
    assert write(records, path) == 3
    (mine,) = lines.read(read(path), name="jsonl")
    assert (mine.item, mine.value, mine.shown) == ("p2", "good", True)
    assert taken(world, queue, [mine]).known == 1
    assert len(judgements(world)) == 1


@pytest.mark.parametrize(
    ("change", "at"),
    [
        (lambda one: one["annotations"][0]["result"][1]["value"].update(x="a"), "result[1].value.x"),
        (lambda one: one["annotations"][0]["result"][1]["value"].update(rotation=3), "value.rotation"),
        (lambda one: one["annotations"][0]["result"][0]["value"].update(choices=["a", "b"]), "value.choices"),
        (lambda one: one["annotations"][0]["result"].pop(0), "annotations[0].result"),
        (lambda one: (one.pop("meta"), one["data"].pop("tenure_item")), "f.json[0]"),
    ],
)
def test_a_fault_names_file_record_and_field(
    world: World, queue: ReviewQueue, tmp_path: Path, change: Any, at: str
) -> None:
    one = json.loads(json.dumps(annotated(tasks(world, tmp_path)[0], 1)))
    change(one)
    with pytest.raises(CaseError) as error:
        list(label_studio.read([one], OUTPUT, name="f.json"))
    assert at in str(error.value)
    assert str(error.value.at).startswith("f.json[0]")
