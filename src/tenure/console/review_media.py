"""What the review page shows of a clip or a photo beside the input itself.

A clip is decoded once to 16-bit mono. The sound that is played and the waveform that is drawn are both made from
those samples, so they cannot drift apart, whatever the clip was encoded in.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from starlette.responses import Response

from tenure.console.route import JUDGE, Ask, Route
from tenure.console.services import Services
from tenure.data import tables as t
from tenure.data.sound import read_audio
from tenure.data.state import dumps
from tenure.errors import MissingError

Samples = npt.NDArray[np.int16]

NEAR = 50  # judged items that are looked through for one whose photo was kept
_PRIVATE = {"cache-control": "private, no-store"}


def decoded(data: bytes) -> tuple[Samples, int]:
    """Return a clip as (n,) int16 mono and its rate in Hz.

    Raises:
        CaseError: 422 `unreadable_audio`; see `read_audio`.
    """
    clip = read_audio(data)
    return np.rint(clip.samples * 32767).astype("<i2"), clip.rate


def wav(samples: Samples, rate: int) -> bytes:
    """Return a WAV file of 16-bit mono samples."""
    body = samples.astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(body))
        + b"WAVE"
        + form
        + struct.pack("<4sI", b"data", len(body))
        + body
    )


def peaks(samples: Samples, columns: int) -> tuple[list[float], list[float]]:
    """Return the least and the greatest sample of each of up to `columns` equal stretches, in [-1, 1].

    Stretch i holds samples i * n // columns up to the next one's start; each sample is in exactly one.
    """
    if not samples.size:
        return [], []
    columns = min(columns, samples.size)
    starts = np.arange(columns, dtype=np.int64) * samples.size // columns
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    return (np.round(low / 32768, 4).tolist(), np.round(high / 32768, 4).tolist())


def _clip(services: Services, item: str) -> tuple[Samples, int]:
    found = services.media(services.queue.source(item))
    if found is None:
        raise MissingError(f"the input of {item!r} was not kept", code="no_media", at="item")
    return decoded(found[1])


def sound(services: Services, ask: Ask) -> Response:
    """Return the clip as a WAV file that every browser plays; 404 where it was not kept."""
    return Response(wav(*_clip(services, ask.path["item"])), media_type="audio/wav", headers=_PRIVATE)


def waveform(services: Services, ask: Ask) -> dict[str, Any]:
    """Return the outline of the samples that `sound` plays: least and greatest per column, rate and length."""
    samples, rate = _clip(services, ask.path["item"])
    low, high = peaks(samples, ask.integer("columns", 1000, low=1, high=8000))
    return {"rate": rate, "samples": len(samples), "low": low, "high": high}


def beside(services: Services, ask: Ask) -> dict[str, Any]:
    """Return the newest other item of the endpoint whose truth is `label` and whose input was kept.

    One of the same unit comes first: the same line, camera or machine is the fairest comparison.
    """
    i, item = t.review_items.c, services.queue.source(ask.path["item"])
    with services.state.read() as conn:
        me = conn.execute(sa.select(i.endpoint, i.unit).where(i.id == item)).one_or_none()
        if me is None:
            raise MissingError(f"there is no item {ask.path['item']!r}", at="item")
        query = (
            sa.select(i.id, i.unit, i.resolved_us)
            .where(i.endpoint == me.endpoint, i.state == "resolved", i.id != item)
            .where(i.truth == dumps(ask.query.get("label", "")))
            .order_by(sa.case((i.unit == me.unit, 0), else_=1), i.resolution.desc())
            .limit(NEAR)
        )
        rows = conn.execute(query).all()
    for row in rows:
        if services.media(row.id) is not None:
            return {"item": row.id, "resolved_us": row.resolved_us, "same_unit": row.unit == me.unit}
    return {"item": None}


ROUTES = (
    Route("GET", "/api/reviews/{item}/sound", JUDGE, sound, "The clip as WAV, to play", answer="audio/wav"),
    Route(
        "GET",
        "/api/reviews/{item}/waveform",
        JUDGE,
        waveform,
        "The outline of the clip's samples",
        query={"columns": "1 to 8000"},
    ),
    Route(
        "GET",
        "/api/reviews/{item}/beside",
        JUDGE,
        beside,
        "The last other item that people gave a label",
        query={"label": "which label"},
    ),
)
