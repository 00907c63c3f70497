"""Encoded sound to samples: WAV by ourselves; FLAC, OGG and MP3 with the `audio` extra."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from tenure.errors import CaseError
from tenure.types import Audio

MAX_SAMPLES = 200_000_000
"""Samples times channels of one clip: 800 MB as float32, over an hour of 48 kHz mono."""

MAX_RATE = 768_000

Floats = npt.NDArray[np.float32]

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_OTHERS = {b"fLaC": "audio/flac", b"OggS": "audio/ogg", b"ID3": "audio/mpeg", b"\xff\xfb": "audio/mpeg"}
_BLOCK = 2**20


def read_audio(body: bytes, *, max_samples: int = MAX_SAMPLES) -> Audio:
    """Decode a clip to mono float32 in [-1, 1]; channels are averaged.

    WAV: PCM of 8, 16, 24 or 32 bits and floats of 32 or 64 bits.

    Raises:
        CaseError: 422 `unreadable_audio`, saying what was wrong; 415 for FLAC, OGG and MP3 where the `audio`
            extra is not installed.
    """
    if not body:
        raise _unreadable("the body is empty")
    if body[:4] in (b"RIFF", b"RF64") and body[8:12] == b"WAVE":
        samples, rate = _wav(body)
        return _clip(samples, rate, body, "audio/wav")
    for magic, media_type in _OTHERS.items():
        if body.startswith(magic):
            samples, rate = _compressed(body, media_type, max_samples)
            return _clip(samples, rate, body, media_type)
    raise _unreadable("not a clip in WAV, FLAC, OGG or MP3")


def _clip(samples: Floats, rate: int, body: bytes, media_type: str) -> Audio:
    """Mix (n, channels) down and make it safe to hand on."""
    if not 0 < rate <= MAX_RATE:
        raise _unreadable(f"a rate of {rate} Hz")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise _unreadable("samples that are not numbers")
    mono = np.ascontiguousarray(np.clip(mono, -1, 1), dtype=np.float32)
    mono.flags.writeable = False
    return Audio(mono, rate, body, media_type)


def _wav(body: bytes) -> tuple[Floats, int]:
    chunks = _chunks(body)
    if "fmt " not in chunks or len(chunks["fmt "]) < 16:
        raise _unreadable("the WAV has no format chunk")
    if "data" not in chunks:
        raise _unreadable("the WAV has no data chunk")
    form = bytes(chunks["fmt "])
    code, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", form)
    if code == _EXTENSIBLE and len(form) >= 26:
        code = struct.unpack_from("<H", form, 24)[0]
    if channels == 0 or align != channels * bits // 8 or bits % 8:
        raise _unreadable(
            f"the WAV's format is inconsistent: {channels} channels of {bits} bits in {align} bytes"
        )
    data = chunks["data"]
    flat = _samples(data[: len(data) // align * align], code, bits)
    return flat.reshape(-1, channels), rate


def _chunks(body: bytes) -> dict[str, memoryview]:
    """Return the first chunk of each name; the data chunk of a stream goes to the end."""
    view, at = memoryview(body), 12
    out: dict[str, memoryview] = {}
    while at + 8 <= len(body):
        name = body[at : at + 4].decode("latin-1")
        size = struct.unpack_from("<I", body, at + 4)[0]
        if name == "data" and size == 0xFFFFFFFF:
            size = len(body) - at - 8
        if at + 8 + size > len(body):
            raise _unreadable(
                f"the WAV ends too early: chunk {name!r} needs {at + 8 + size - len(body)} bytes more"
            )
        out.setdefault(name, view[at + 8 : at + 8 + size])
        if name == "data":
            return out
        at += 8 + size + (size & 1)
    return out


def _samples(data: memoryview, code: int, bits: int) -> Floats:
    if code == _FLOAT and bits in (32, 64):
        with np.errstate(over="ignore"):
            return np.frombuffer(data, dtype=f"<f{bits // 8}").astype(np.float32)
    if code != _PCM or bits not in (8, 16, 24, 32):
        raise _unreadable(f"WAV format {code} with {bits} bits; send PCM of 8 to 32 bits or floats")
    if bits == 8:
        return (np.frombuffer(data, dtype=np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    if bits == 24:
        raw = np.frombuffer(data, dtype=np.uint8).reshape(-1, 3)
        wide = np.zeros((len(raw), 4), dtype=np.uint8)
        wide[:, 1:] = raw
        return wide.view("<i4").ravel().astype(np.float32) / np.float32(2**31)
    whole = np.frombuffer(data, dtype=f"<i{bits // 8}").astype(np.float32)
    return whole / np.float32(2 ** (bits - 1))


def _compressed(body: bytes, media_type: str, max_samples: int) -> tuple[Floats, int]:
    soundfile = _soundfile(media_type)
    try:
        with soundfile.SoundFile(io.BytesIO(body)) as clip:
            return _blocks(clip, max_samples), int(clip.samplerate)
    except CaseError:
        raise
    except Exception as error:  # decoders of hostile bytes raise anything
        raise _unreadable(str(error)[:200] or type(error).__name__) from error


def _blocks(clip: Any, max_samples: int) -> Floats:
    """Read block by block, so that a small file that unfolds to hours is refused in time."""
    blocks: list[Floats] = []
    seen = 0
    while True:
        block = clip.read(_BLOCK, dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        seen += block.size
        if seen > max_samples:
            raise _unreadable(f"more than {max_samples} samples")
        blocks.append(block)
    if not blocks:
        return np.zeros((0, 1), dtype=np.float32)
    return np.concatenate(blocks)


def _soundfile(media_type: str) -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise CaseError(
            f"this server reads WAV only; for {media_type} run `pip install tenure[audio]` on it",
            code="unsupported_media_type",
            at="content-type",
            status=415,
        ) from error
    return soundfile


def _unreadable(why: str) -> CaseError:
    return CaseError(f"cannot read the clip: {why}", code="unreadable_audio", at="body")
