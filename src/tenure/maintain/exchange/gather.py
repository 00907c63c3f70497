"""Which items are handed out, with their inputs written beside them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import sqlalchemy as sa
from PIL import Image as Pillow
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.masking import Mask
from tenure.deploy.review import store
from tenure.maintain import judged
from tenure.maintain.dataset import Payload
from tenure.maintain.exchange.entry import EXTENSIONS, Out
from tenure.maintain.judged import Judged

MEDIA = "media"


def select(
    conn: Connection, endpoint: str, *, open_: bool, resolved: bool, since_us: int, until_us: int | None = None
) -> list[Judged]:
    """Return items of an endpoint, oldest first: those that wait for readers, those with a truth, or both."""
    states = (store.WAITING if open_ else ()) + (("resolved",) if resolved else ())
    return judged.select(conn, endpoint, since_us=since_us, until_us=until_us, states=states)


def outs(
    items: Sequence[Judged], folder: Path, payload: Payload, *, mask: Mask,
    progress: Callable[[int], None] = lambda n: None,
) -> Iterator[Out | str]:  # fmt: skip
    """Yield each item with its input written to `folder`, or the id of one whose input is not kept.

    What `mask` names does not leave; `NOTHING` is for whoever may and has asked.
    """
    for number, one in enumerate(items, 1):
        yield _out(one, folder, payload, mask)
        progress(number)


def _out(one: Judged, folder: Path, payload: Payload, mask: Mask) -> Out | str:
    item = one.item
    truth = json.loads(item["truth"] or "null")
    shared = {
        "judged": one, "truth": truth, "boxes": store.boxes(item["truth_regions"]),
        "show": may_show(item),
        "weight": _weight(item["kind"], item["audit_prob"]), "unit": mask.unit(item["unit"]),
    }  # fmt: skip
    if item["record"] is not None:
        return Out(record=mask.record(json.loads(item["record"])), **shared)
    kept = None if mask.fields else payload(item["id"])
    if kept is None:
        return str(item["id"])
    media_type, data = kept
    name = f"{item['id']}.{EXTENSIONS.get(media_type.partition(';')[0].strip().lower(), 'bin')}"
    (folder / MEDIA).mkdir(parents=True, exist_ok=True)
    size = _size(data) if media_type.startswith("image/") else None
    (folder / MEDIA / name).write_bytes(data)
    return Out(file=f"{MEDIA}/{name}", size=size, **shared)


def may_show(item: store.Row) -> bool:
    """Say whether a reader of an item may see the model's answer.

    Only the first reading may be with it in view, and not where the item is blind. With the truth known all may.
    """
    open_ = item["state"] == "open" and not item["blind"] and not item["escalated"]
    return item["truth"] not in (None, "null") or bool(open_)


def _weight(kind: str, chance: float) -> float | None:
    if kind != "audit":
        return 1.0
    return 1.0 / chance if 0.0 < chance <= 1.0 else None


def _size(data: bytes) -> tuple[int, int]:
    with Pillow.open(io.BytesIO(data)) as photo:
        width, height = photo.size
        turned = photo.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (height, width) if turned else (width, height)


def box_labels(conn: Connection, endpoint: str) -> list[str]:
    """Return the labels of boxes that versions or people gave on an endpoint, by name."""
    i = t.review_items.c
    mine = i.endpoint == endpoint
    said = sa.select(t.item_predictions.c.regions).join(t.review_items, i.id == t.item_predictions.c.item)
    true = sa.select(i.truth_regions).where(mine, i.truth_regions.is_not(None))
    texts = [*conn.execute(said.where(mine).distinct()).scalars(), *conn.execute(true.distinct()).scalars()]
    return sorted({box.label for text in texts for box in store.boxes(text)})
