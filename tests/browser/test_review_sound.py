"""A reviewer listens, loops, seeks by word and corrects a transcript: real recordings in a real browser."""

from __future__ import annotations

import io
import urllib.request
import wave
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from desk_world import World, drawn, fits, sent, shot, table, until

from tenure.scope import project as p
from tenure.types import Box

pytestmark = pytest.mark.browser

PROJECT = p.Project(
    project="speech",
    scope=p.Scope(x="a recording", y=p.Output(kind="text")),
    endpoints={"words": p.EndpointSpec(input="audio")},
)
CLIP = "cards_005.flac"
WATCH = """() => {
  const a = document.querySelector('audio');
  window.back = 0; window.most = 0;
  let last = a.currentTime;
  const see = () => {
    if (a.currentTime < last - 0.05) window.back++;
    window.most = Math.max(window.most, a.currentTime);
    last = a.currentTime;
    requestAnimationFrame(see);
  };
  see();
}"""


def fill(world: World, data: Path) -> None:
    """One utterance in FLAC with words, then one digit in WAV without a suggestion."""
    folder = data / "speech" / "utterances"
    row = next(r for r in table(folder / "index.csv") if r["file"] == CLIP)
    words = row["transcript"].split()
    heard = ["spades" if w == "spades" else w for w in words[:-1]] + ["parts"]  # the model's last word is wrong
    step = float(row["seconds"]) / len(words)  # stands for an aligner's times
    spans = [Box(i * step, 0, (i + 1) * step, 1, w, 0.31 if w == "parts" else 0.95) for i, w in enumerate(heard)]
    world.add("u1", "audio/*", (folder / CLIP).read_bytes(), endpoint="words", said=" ".join(heard),
              confidence=0.7, regions=spans)  # fmt: skip
    digit = data / "speech" / "digits" / "wav" / "7_george_0.wav"
    world.add("d7", "audio/*", digit.read_bytes(), endpoint="words")


def fetched(world: World, path: str) -> bytes:
    with urllib.request.urlopen(world.url + path, timeout=60) as answer:
        return bytes(answer.read())


def opened(desk: Any, world: World) -> None:
    desk.goto(f"{world.url}/#/review/words")
    desk.locator(".wave path").wait_for()
    until(desk, "document.querySelector('audio').readyState >= 3")
    drawn(desk)


def position(desk: Any) -> float:
    return float(desk.evaluate("document.querySelector('audio').currentTime"))


@pytest.mark.parametrize("item", ["u1", "d7"])
def test_the_waveform_is_that_of_the_sound_that_is_played(world: World, item: str) -> None:
    with wave.open(io.BytesIO(fetched(world, f"/api/reviews/{item}/sound"))) as clip:
        samples = np.frombuffer(clip.readframes(clip.getnframes()), "<i2")
        rate = clip.getframerate()
    drawn = msgspec.json.decode(fetched(world, f"/api/reviews/{item}/waveform?columns=64"))
    assert (drawn["rate"], drawn["samples"]) == (rate, samples.size)
    starts = [i * samples.size // 64 for i in range(65)]
    parts = [samples[a:b] for a, b in pairwise(starts)]
    assert drawn["low"] == pytest.approx([x.min() / 32768 for x in parts], abs=1e-4)
    assert drawn["high"] == pytest.approx([x.max() / 32768 for x in parts], abs=1e-4)
    assert max(drawn["high"]) > 0.05


def test_a_click_on_the_waveform_and_a_word_go_there(desk: Any, world: World) -> None:
    opened(desk, world)
    edge = desk.locator(".wave").bounding_box()
    total = float(desk.evaluate("document.querySelector('audio').duration"))
    desk.mouse.click(edge["x"] + edge["width"] * 0.5, edge["y"] + 50)
    assert position(desk) == pytest.approx(total / 2, abs=0.02)
    desk.locator(".words button", has_text="clubs").click()
    assert position(desk) == pytest.approx(total * 5 / 9, abs=0.02)
    desk.keyboard.press("Escape")
    desk.keyboard.press("k")
    assert position(desk) == pytest.approx(total * 6 / 9, abs=0.02)
    desk.keyboard.press("j")
    assert position(desk) == pytest.approx(total * 5 / 9, abs=0.02)
    assert desk.locator(".words .doubtful").all_inner_texts() == ["parts\n(not sure)"]
    assert desk.locator(".wave .doubt").count() == 1


def test_a_region_loops_and_the_speed_keeps_the_pitch(desk: Any, world: World) -> None:
    opened(desk, world)
    edge = desk.locator(".wave").bounding_box()
    y = edge["y"] + 60
    desk.mouse.move(edge["x"] + edge["width"] * 0.40, y)
    desk.mouse.down()
    desk.mouse.move(edge["x"] + edge["width"] * 0.50, y, steps=5)
    desk.mouse.up()
    desk.locator(".wave .span").wait_for()
    for _ in range(3):
        desk.keyboard.press(".")
    player = "document.querySelector('audio')"
    until(desk, f"{player}.playbackRate === 2 && {player}.preservesPitch")
    for _ in range(5):  # the slowest: the page looks once a frame whether the end of the span is reached
        desk.keyboard.press(",")
    until(desk, f"{player}.playbackRate === 0.5 && {player}.preservesPitch")
    desk.evaluate(WATCH)
    desk.keyboard.press("Space")
    until(desk, "window.back >= 2")
    total = float(desk.evaluate("document.querySelector('audio').duration"))
    assert desk.evaluate("window.most") < total * 0.85  # it turned back after half, not at the clip's end
    shot(desk, "review-sound-loop")
    desk.keyboard.press("Space")
    assert desk.evaluate("document.querySelector('audio').paused")
    desk.keyboard.press("o")
    assert desk.locator(".wave .span").count() == 0


def test_a_transcript_is_corrected_by_keyboard_with_a_difference(desk: Any, world: World) -> None:
    opened(desk, world)
    desk.keyboard.press("e")
    desk.keyboard.press("End")
    for _ in "parts":
        desk.keyboard.press("Backspace")
    desk.keyboard.type("hearts")
    assert desk.locator(".difference del").inner_text() == "parts"
    assert desk.locator(".difference ins").inner_text() == "hearts"
    shot(desk, "review-sound")
    assert fits(desk, width=400)
    desk.keyboard.press("Enter")
    desk.get_by_text("Nothing is suggested for this item.").wait_for()
    desk.locator(".wave path").wait_for()
    drawn(desk)
    desk.keyboard.press("x")
    assert desk.locator("textarea").input_value() == "[no speech]"
    desk.keyboard.press("z")
    assert desk.get_by_role("button", name="Unintelligible").get_attribute("aria-pressed") == "true"
    desk.keyboard.press("Enter")
    sent(desk, 2)
    rows = world.judgements()
    assert [r["value"] for r in rows] == ["eight of spades four of clubs seven of hearts", "[unintelligible]"]
    assert [r["regions"] for r in rows] == ["[]", "[]"]


def test_an_unsent_draft_outlives_a_reload(desk: Any, world: World) -> None:
    opened(desk, world)
    desk.keyboard.press("e")
    desk.keyboard.press("Control+a")
    desk.keyboard.type("half a sen")
    desk.reload()
    desk.locator(".wave path").wait_for()
    assert desk.locator("textarea").input_value() == "half a sen"
