"""Clips become mono float32, whatever their bits and channels; broken ones say what is broken."""

import io
import struct
import sys
import wave

import numpy as np
import pytest

from tenure.data.decode import decode
from tenure.data.schema import InputSchema
from tenure.data.sound import read_audio
from tenure.errors import CaseError

AUDIO = InputSchema("audio")
TONE = (0.5 * np.sin(np.arange(800) / 8)).astype(np.float32)


def riff(
    code: int, bits: int, data: bytes, *, channels: int = 1, rate: int = 8000, size: int | None = None
) -> bytes:
    align = channels * bits // 8
    form = struct.pack("<HHIIHH", code, channels, rate, rate * align, align, bits)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"LIST" + struct.pack("<I", 3) + b"abc\0"
    chunks += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def pcm(bits: int) -> bytes:
    if bits == 8:
        return np.round(TONE * 128 + 128).astype(np.uint8).tobytes()
    whole = np.round(TONE.astype(np.float64) * 2 ** (bits - 1)).astype("<i4")
    if bits == 24:
        return whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return whole.astype(f"<i{bits // 8}").tobytes()


def refusal(body: bytes, media_type: str = "audio/wav") -> CaseError:
    with pytest.raises(CaseError) as caught:
        decode(AUDIO, body, media_type)
    return caught.value


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_pcm_of_every_depth_is_the_same_sound(bits: int) -> None:
    clip = decode(AUDIO, riff(1, bits, pcm(bits)), "audio/wav")
    assert (clip.rate, clip.samples.dtype, len(clip.samples)) == (8000, np.float32, 800)
    np.testing.assert_allclose(clip.samples, TONE, atol=1.01 / 2 ** (bits - 1) + 1e-6)
    assert not clip.samples.flags.writeable


@pytest.mark.parametrize("bits", [32, 64])
def test_float_wavs_are_read_and_kept_inside_full_scale(bits: int) -> None:
    data = (TONE * 4).astype(f"<f{bits // 8}").tobytes()
    samples = read_audio(riff(3, bits, data)).samples
    np.testing.assert_allclose(samples, np.clip(TONE * 4, -1, 1), atol=1e-6)


def test_the_standard_library_writes_what_we_read() -> None:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.array([[1000, 3000], [-2000, 0]], dtype="<i2").tobytes())
    clip = read_audio(out.getvalue())
    np.testing.assert_allclose(clip.samples, np.array([2000, -1000]) / 32768, atol=1e-7)
    assert clip.seconds == 2 / 16000


def test_a_stream_of_unknown_length_is_read_to_its_end() -> None:
    assert len(read_audio(riff(1, 16, pcm(16), size=0xFFFFFFFF)).samples) == 800


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "empty"),
        (b"hello", "not a clip"),
        (riff(1, 16, pcm(16))[:-10], "10 bytes more"),
        (riff(1, 12, b"\0" * 12), "inconsistent"),
        (riff(6, 8, b"\0" * 12), "format 6"),
        (riff(1, 16, pcm(16), rate=0), "rate"),
        (riff(1, 16, pcm(16), channels=0), "inconsistent"),
        (riff(3, 32, struct.pack("<f", float("nan"))), "not numbers"),
        (b"RIFF\x04\0\0\0WAVE", "format chunk"),
        (riff(1, 16, b"")[:-8], "data chunk"),
    ],
)
def test_a_broken_clip_says_what_is_wrong(body: bytes, word: str) -> None:
    found = refusal(body)
    assert (found.status, found.code) == (422, "unreadable_audio")
    assert word in found.message


@pytest.mark.parametrize(("form", "media_type"), [("FLAC", "audio/flac"), ("OGG", "audio/ogg")])
def test_compressed_clips_are_read_through_the_extra(form: str, media_type: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    out = io.BytesIO()
    soundfile.write(out, TONE, 8000, format=form)
    clip = decode(AUDIO, out.getvalue(), media_type)
    assert (clip.rate, clip.media_type) == (8000, media_type)
    np.testing.assert_allclose(clip.samples[:700], TONE[:700], atol=0.05)
    with pytest.raises(CaseError, match="more than 100 samples"):
        read_audio(out.getvalue(), max_samples=100)
    assert refusal(out.getvalue()[:60], media_type).code == "unreadable_audio"


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    found = refusal(b"fLaC" + bytes(50), "audio/flac")
    assert (found.status, found.code) == (415, "unsupported_media_type")
    assert "pip install tenure[audio]" in found.message
