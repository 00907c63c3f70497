"""A server with one endpoint of each kind, and bodies of every media type that they take."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import contract_models as models
import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from PIL import Image as Pillow
from serving_server import LABELS, World

from tenure.deploy.rollout.ledger import Rollouts
from tenure.scope.project import Automation, Decode, EndpointSpec, Fallback, Field, Output, Serve

FULL = Automation(start="full", max="full")
BOXED = Output(labels=LABELS.labels, regions="box")
ROWS = {
    "a": Field(type="float", nullable=True),
    "n": Field(type="int", required=False, min=0, max=100),
    "on": Field(type="bool", required=False),
    "kind": Field(type="category", required=False, values=("x", "y")),
    "note": Field(type="text", required=False),
}
SMALL, LARGE = Serve(max_body=100_000), Serve(max_body=200_000)
ENDPOINTS = {
    "sums": EndpointSpec(input="record", fields=ROWS, automation=FULL, serve=SMALL),
    "free": EndpointSpec(input="record", automation=FULL, serve=SMALL),
    "notes": EndpointSpec(
        input="text",
        automation=FULL,
        serve=Serve(max_body=10_000, on_timeout=Fallback(decide="small", after=0.5)),
    ),
    "spots": EndpointSpec(input="image", automation=FULL, output=BOXED, decode=Decode(min_side=32), serve=LARGE),
    "photos": EndpointSpec(input="image", automation=Automation(start="human_only"), serve=LARGE),
    "clips": EndpointSpec(input="audio", automation=FULL, serve=LARGE),
}


def world(root: Path) -> World:
    made = World(root, ENDPOINTS)
    samples: dict[str, tuple[Any, Any]] = {
        "sums": (models.total, {"a": 1.0}),
        "free": (models.anything, {"x": 1}),
        "notes": (models.length, "a note"),
        "spots": (models.spots, _file(root / "spots.png", photo())),
        "photos": (models.plain, _file(root / "photos.png", photo())),
        "clips": (models.loud, _file(root / "clips.wav", clip())),
    }
    for name, (model, sample) in samples.items():
        output = BOXED if name == "spots" else LABELS
        version = made.registry.register(name, model, spec=ENDPOINTS[name], output=output, sample=sample)
        with made.state.begin() as conn:
            Rollouts(made.state, ENDPOINTS).set_stable(conn, name, version, "test")
    return made


def _file(path: Path, body: bytes) -> Path:
    path.write_bytes(body)
    return path


def photo(form: str = "PNG", *, width: int = 90, height: int = 70) -> bytes:
    out = io.BytesIO()
    rows, columns = np.mgrid[0:height, 0:width]
    Pillow.fromarray(((rows + columns) % 256).astype(np.uint8)).save(out, form)
    return out.getvalue()


def clip() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes((np.sin(np.arange(800) / 8) * 9000).astype("<i2").tobytes())
    return out.getvalue()


def arrow(columns: dict[str, list[Any]]) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


LINES = (
    b'{"a": 1}\n{"a": "x"}\n', b'"short"\n"a long note"\n', b"\n\n", b"{", b'{"a": null, "n": 3}',
    b'[1]\n{"x": {}}',
)  # fmt: skip
STREAMS = (
    arrow({"a": [1.0, None], "n": [1, 2]}), arrow({"note": ["short", "a long note"]}), arrow({"x": [[1]]}), b"",
)  # fmt: skip
FORMS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP", "image/gif": "GIF", "image/bmp": "BMP",
         "image/tiff": "TIFF"}  # fmt: skip


def bodies(*good: bytes) -> st.SearchStrategy[bytes]:
    """Return real files of a kind, the same cut and damaged, and anything at all."""
    real = st.sampled_from(good)
    return st.one_of(
        real,
        st.builds(lambda body, cut: body[:cut], real, st.integers(0, 200)),
        st.builds(_damaged, real, st.integers(0, 1000), st.integers(0, 255)),
        st.binary(max_size=100),
    )


def _damaged(body: bytes, at: int, value: int) -> bytes:
    at %= len(body) + 1
    return body[:at] + bytes([value]) + body[at + 1 :]


def media() -> dict[str, st.SearchStrategy[bytes]]:
    """Return what is sent for each media type that is not JSON, text or a form."""
    out = {name: bodies(photo(form), photo(form, width=300)) for name, form in FORMS.items()}
    out |= {name: bodies(clip()) for name in ("audio/wav", "audio/flac", "audio/ogg")}
    out |= {name: bodies(*LINES) for name in ("application/x-ndjson", "application/jsonl")}
    out["application/vnd.apache.arrow.stream"] = bodies(*STREAMS)
    out["application/octet-stream"] = bodies(photo(), clip(), b"x")
    return out
