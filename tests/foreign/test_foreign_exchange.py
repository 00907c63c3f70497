"""What we export is read by pycocotools and label-studio-sdk, and its converter gives our own boxes back."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from foreign_env import python_of, run

from tenure.data.masking import NOTHING
from tenure.data.state import State
from tenure.deploy.review.items import NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.maintain.exchange import coco, gather, label_studio, taking
from tenure.maintain.exchange.entry import Out, Taken
from tenure.scope.project import EndpointSpec, Output, Review, SecondReader
from tenure.types import Box

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(600)]
OUTPUT = Output(labels=("good", "defect"), regions="box")


def test_boxes_of_circuit_boards_are_read_by_the_formats_own_readers(
    tmp_path: Path, real_data: Path, state: State
) -> None:
    python = python_of("exchange")
    folder = real_data / "images" / "deeppcb"
    boards = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()[:20]]
    photos = {f"q{n}": ("image/jpeg", (folder / b["file"]).read_bytes()) for n, b in enumerate(boards)}
    made = _resolved(state, boards, photos, tmp_path)
    names = sorted({box.label for out in made for box in out.boxes})
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "annotations.json").write_bytes(msgspec.json.encode(coco.dataset(made)))
    tasks = [label_studio.task(out, "image", OUTPUT, prefix="/data/local-files/?d=") for out in made]
    (tmp_path / "tasks.json").write_bytes(msgspec.json.encode(tasks))
    (tmp_path / "config.xml").write_text(label_studio.config("image", OUTPUT, names))
    checks = run(python, "exchange_readers.py", [str(tmp_path), str(tmp_path / "coco")])
    assert checks == ["config", "tasks", "pycocotools", "converter", "json_min"]
    short = json.loads((tmp_path / "min" / "result.json").read_text())
    back = {t.item: t for t in label_studio.read(short, OUTPUT, name="result.json")}
    for out in made:
        assert back[out.id].value == out.truth
        assert [b.label for b in back[out.id].regions] == [b.label for b in out.boxes]
        for got, sent in zip(back[out.id].regions, out.boxes, strict=True):
            assert (got.x1, got.y1, got.x2, got.y2) == pytest.approx((sent.x1, sent.y1, sent.x2, sent.y2))


def _resolved(
    state: State, boards: list[dict[str, object]], photos: dict[str, tuple[str, bytes]], folder: Path
) -> list[Out]:
    review = Review(second_reader=SecondReader(disagreements=0.0, agreements=0.0))
    queue = ReviewQueue(state, {"boards": EndpointSpec(input="image", output=OUTPUT, review=review)})
    base = {"kind": "uncertain", "media_type": "image/jpeg", "endpoint": "boards"}
    with state.begin() as conn:
        queue.add(conn, [NewItem(id=id_, created_us=n, **base) for n, id_ in enumerate(photos)])  # type: ignore[arg-type]
    taken = [
        Taken(
            item=f"q{n}", reader="truth", value=str(b["label"]), key=str(n), at="index", shown=False,
            regions=tuple(Box(*c, f"defect type {k}") for c, k in zip(b["boxes"], b["box_types"], strict=True)),  # type: ignore[call-overload]
        )
        for n, b in enumerate(boards)
    ]  # fmt: skip
    assert taking.take(state, queue, "boards", taken).stored == len(boards)
    with state.read() as conn:
        items = gather.select(conn, "boards", open_=False, resolved=True, since_us=0)
    return [out for out in gather.outs(items, folder, photos.get, mask=NOTHING) if isinstance(out, Out)]
