"""What is exchanged: an item with its input, or a judgement that was made elsewhere."""

from __future__ import annotations

from typing import Any

import msgspec

from tenure.errors import CaseError
from tenure.maintain.judged import Judged
from tenure.types import Box, Value

EXTENSIONS = {
    "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/bmp": "bmp", "image/tiff": "tif",
    "image/gif": "gif", "audio/wav": "wav", "audio/x-wav": "wav", "audio/flac": "flac", "audio/ogg": "ogg",
    "text/plain": "txt", "application/json": "json",
}  # fmt: skip


class Out(msgspec.Struct, frozen=True, kw_only=True):
    """One item to hand out.

    Attributes:
        judged: what is known of it; `truth` is None while it is open.
        file: name of its input in the folder, or
        record: the input itself, a record or a text.
        size: (width, height) of a picture, turned upright.
        show: whether a reader may see the model's answer.
        unit: what shares a fate, hashed where it is masked.
        weight: 1 / chance that it was to be judged at all; None where that is not known.
    """

    judged: Judged
    truth: Value = None
    boxes: tuple[Box, ...] = ()
    file: str | None = None
    record: Any = None
    size: tuple[int, int] | None = None
    show: bool = False
    unit: str = ""
    weight: float | None = None

    @property
    def id(self) -> str:
        return str(self.judged.item["id"])


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """One judgement of somebody else's file.

    Attributes:
        item: id of the request.
        reader: as our judgements name it, such as `label_studio:7`.
        key: the same judgement has the same, so that it is stored once.
        stem: how the keys of all its forms begin, so that a later one corrects it; "" = there is only one.
        shown: the reader saw the model's answer, or nobody knows that they did not.
        ours: number of our own judgement that was exported and comes back.
        at: where it stands in the file, for errors.
    """

    item: str
    reader: str
    value: Value
    key: str
    at: str
    regions: tuple[Box, ...] = ()
    seconds: float = 0.0
    shown: bool = True
    stem: str = ""
    ours: int | None = None


def wrong(at: str, what: str) -> CaseError:
    """Return the error for a place in a file, such as `tasks[3].annotations[0].result[1].value.x`."""
    return CaseError(f"{at}: {what}", code="invalid_exchange", at=at)
