"""Transcripts: word errors of each judge against the other and against the truth, and which words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from tenure.deploy.shadow.cases import Case, Said
from tenure.deploy.shadow.classes import Share, of_units
from tenure.stats import interval, words
from tenure.stats.words import Step, WordErrors

TOP = 15


class Spoken(msgspec.Struct, frozen=True):
    """Word errors of many clips against a reference.

    `rate` is all errors over all reference words, with a 95 % bootstrap over units where there are 30 of them;
    None without reference words.
    """

    clips: int
    words: int
    substituted: int
    deleted: int
    inserted: int
    rate: float | None
    low: float | None
    high: float | None


class Confusion(msgspec.Struct, frozen=True):
    """`person` was transcribed as `model` by the model; None: no word at all."""

    person: str | None
    model: str | None
    count: int


class Transcription(msgspec.Struct, frozen=True, tag="transcription"):
    """Transcripts of all clips.

    Attributes:
        clips: share on which both wrote the same words; case and punctuation do not count.
        model_by_person: the model's words with the person's as reference.
        person_by_model: the reverse: insertions and deletions swap, the rate has another denominator.
        model_by_truth: of the clips that were read again.
        person_by_truth: the same for the person.
        confusions: the most frequent substitutions.
        missed: words that only the person wrote.
        added: words that only the model wrote.
    """

    clips: Share
    model_by_person: Spoken
    person_by_model: Spoken
    model_by_truth: Spoken
    person_by_truth: Spoken
    confusions: tuple[Confusion, ...]
    missed: tuple[Confusion, ...]
    added: tuple[Confusion, ...]


def same_words(a: Said, b: Said) -> bool:
    """Say whether two transcripts have the same words."""
    return _words(_text(a)) == _words(_text(b))


def transcribe(cases: Sequence[Case]) -> Transcription:
    """Align the transcripts of both judges, clip by clip."""
    units = [c.unit or f"#{c.number}" for c in cases]
    steps = [words.align(_text(c.person), _text(c.model)) for c in cases]
    there = [words.counted(s) for s in steps]
    back = [words.errors(_text(c.model), _text(c.person)) for c in cases]
    known = [(c, c.truth, unit) for c, unit in zip(cases, units, strict=True) if c.truth is not None]
    read_units = [unit for *_, unit in known]
    return Transcription(
        of_units(cases, lambda c: same_words(c.model, c.person)),
        spoken(there, units),
        spoken(back, units),
        spoken([words.errors(_text(t), _text(c.model)) for c, t, _ in known], read_units),
        spoken([words.errors(_text(t), _text(c.person)) for c, t, _ in known], read_units),
        _frequent(steps, "substituted"),
        _frequent(steps, "deleted"),
        _frequent(steps, "inserted"),
    )


def spoken(found: Sequence[WordErrors], units: Sequence[str]) -> Spoken:
    """Add up word errors; clips of one unit are drawn together."""
    said, wrong = Counter[str](), Counter[str]()
    for errors, unit in zip(found, units, strict=True):
        said[unit] += errors.words
        wrong[unit] += errors.count
    total, count = said.total(), wrong.total()
    rows = [said[unit] for unit in said]
    spread = interval.unit_bootstrap(rows, [wrong[unit] for unit in said]) if all(rows) else None
    low, high = spread or (None, None)
    return Spoken(
        len(found),
        total,
        sum(e.substituted for e in found),
        sum(e.deleted for e in found),
        sum(e.inserted for e in found),
        count / total if total else None,
        low,
        high,
    )


def _frequent(steps: Sequence[Sequence[Step]], change: str) -> tuple[Confusion, ...]:
    found = Counter((s.reference, s.said) for clip in steps for s in clip if s.change == change)
    ranked = sorted(found.items(), key=lambda item: (-item[1], str(item[0])))
    return tuple(Confusion(*pair, count) for pair, count in ranked[:TOP])


def _text(said: Said) -> str:
    return "" if said.value is None else str(said.value)


@lru_cache(maxsize=10_000)
def _words(text: str) -> tuple[str, ...]:
    return tuple(words.normalised(text))
