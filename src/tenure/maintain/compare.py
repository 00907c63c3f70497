"""The incumbent against the new version on the frozen test of a snapshot: paired, one look, in words.

Only fair cases count: drawn without regard to a score and judged blind. What people see at `partial` is what the
incumbent was unsure of, where it errs more than elsewhere, so that even a worse challenger would pass; and what
people judge with its answer before them leans its way.
An answer is right when its value is the label; boxes are not compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Literal

import msgspec

from tenure.data.decode import decode
from tenure.deploy.review.resolve import same
from tenure.maintain.snapshot import Row, Snapshot
from tenure.model import bundle
from tenure.model.bundle import Bundle
from tenure.model.pipeline import Pipeline
from tenure.model.trust import NOTHING
from tenure.scope.project import Trust
from tenure.stats import champion
from tenure.types import Failed, Input

MARGIN = 0.02
"""Increase of the error rate that is tolerated: a smaller one needs thousands of blind labels to be excluded."""

DELTA = 0.05
_BATCH = 16

Verdict = Literal["not worse", "not shown", "too few", "no incumbent", "not compared"]


class Slice(msgspec.Struct, frozen=True):
    """The cases of one true label: how many, who alone was wrong how often, and what that shows."""

    n: int
    b: int
    c: int
    verdict: champion.SliceVerdict


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions on the same cases.

    Attributes:
        challenger: the new version; champion: the incumbent, None without one.
        n: cases; units: things that share a fate, equal to `n` where every case stands alone.
        challenger_errors, champion_errors: wrong answers; a failed answer is wrong.
        b, c: cases that only the challenger, only the champion got wrong.
        verdict: `not worse` = shown not to be worse by more than `margin`.
        p, level: one-sided p-value and what it had to fall below; None without a test.
        attempt: 1 for the first version that is compared on these cases; each further one has less to spend.
        slices: true label -> its cases.
        from_us, until_us: times of the oldest and the newest case.
        sentence: the same in words.
    """

    challenger: str
    champion: str | None
    n: int
    units: int
    challenger_errors: int
    champion_errors: int | None
    b: int = 0
    c: int = 0
    verdict: Verdict
    p: float | None = None
    level: float | None = None
    margin: float = MARGIN
    attempt: int = 1
    slices: dict[str, Slice] = {}
    from_us: int | None = None
    until_us: int | None = None
    sentence: str = ""

    @property
    def passed(self) -> bool:
        """Whether the new version is shown not to be worse, as a whole and on no slice shown to be."""
        return self.verdict == "not worse" and all(s.verdict != "worse" for s in self.slices.values())


def compare(
    snapshot: Snapshot,
    challenger: Bundle,
    incumbent: Bundle | None,
    *,
    attempt: int = 1,
    margin: float = MARGIN,
    delta: float = DELTA,
    trusted: Trust = NOTHING,
) -> Comparison:
    """Run both versions on the fair test cases of a snapshot and say whether the new one is not worse.

    `trusted` is the operator's word on files that may run code.

    Raises:
        ModelError: a version cannot be loaded.
        CaseError: an input cannot be decoded any more.
    """
    if challenger.manifest.output.kind != "label":
        return _uncompared(challenger, incumbent)
    cases = [row for row in snapshot.rows() if row.split == "test" and row.fair]
    new = wrong(bundle.load(challenger, trusted=trusted), challenger, snapshot, cases=cases)
    old = None
    if incumbent is not None:
        old = wrong(bundle.load(incumbent, trusted=trusted), incumbent, snapshot, cases=cases)
    found = judge(cases, new, old, attempt=attempt, margin=margin, delta=delta)
    named = msgspec.structs.replace(
        found, challenger=challenger.id, champion=None if incumbent is None else incumbent.id
    )
    return msgspec.structs.replace(named, sentence=sentence(named))


def wrong(pipeline: Pipeline, made: Bundle, snapshot: Snapshot, *, cases: Sequence[Row]) -> list[bool]:
    """Say for each case whether a version's answer is wrong or missing."""
    out: list[bool] = []
    rows = iter(cases)
    while batch := list(islice(rows, _BATCH)):
        answers = pipeline.run([input_of(row, made, snapshot) for row in batch])
        for row, answer in zip(batch, answers, strict=True):
            said = answer.prediction
            out.append(isinstance(said, Failed) or not same(said.value, row.label))
    return out


def input_of(row: Row, made: Bundle, snapshot: Snapshot) -> Input:
    """Return the input of a row as the version gets it when serving."""
    schema = made.manifest.input
    if row.file is not None:
        return decode(schema, (snapshot.path / row.file).read_bytes(), row.media_type)
    return str(row.record) if schema.kind == "text" else schema.check_record(row.record)


def judge(
    cases: Sequence[Row],
    new: Sequence[bool],
    old: Sequence[bool] | None,
    *,
    attempt: int = 1,
    margin: float = MARGIN,
    delta: float = DELTA,
) -> Comparison:
    """Judge who was wrong where.

    Args:
        cases: (n,) the rows.
        new: (n,) whether the challenger is wrong.
        old: (n,) whether the champion is wrong; None without one.
        attempt: 1 for the first challenger on these cases, and so on.
        margin: tolerated increase of the error rate.
        delta: chance that a version that is worse by the margin passes, over all attempts.
    """
    times = [row.at_us for row in cases]
    units = Counter(row.unit or row.id for row in cases)
    basis = Comparison(
        challenger="", champion=None, n=len(cases), units=len(units), challenger_errors=sum(new),
        champion_errors=None, verdict="no incumbent", margin=margin, attempt=attempt,
        from_us=min(times, default=None), until_us=max(times, default=None),
    )  # fmt: skip
    if old is None:
        return basis
    b = sum(x and not y for x, y in zip(new, old, strict=True))
    c = sum(y and not x for x, y in zip(new, old, strict=True))
    if len(units) == len(cases):
        tested = champion.compare(b, c, len(cases), margin=margin, delta=delta, attempt=attempt)
    else:
        difference: Counter[str] = Counter()
        for row, x, y in zip(cases, new, old, strict=True):
            difference[row.unit or row.id] += int(x) - int(y)
        sums = [difference[unit] for unit in units]
        tested = champion.compare_units(list(units.values()), sums, margin=margin, delta=delta, attempt=attempt)
    return msgspec.structs.replace(
        basis, champion_errors=sum(old), b=b, c=c, verdict=tested.verdict, p=tested.p, level=tested.level,
        slices=_slices(cases, new, old, delta),
    )  # fmt: skip


def sentence(found: Comparison) -> str:
    """Say a comparison in words."""
    if found.verdict == "no incumbent":
        return (
            f"{found.challenger} is wrong on {found.challenger_errors} of {found.n} blind test cases; "
            "there is no incumbent to compare it with."
        )
    said = {
        "not worse": f"is shown not to be worse than {found.champion} by more than {100 * found.margin:g} points",
        "not shown": f"is not shown to be as good as {found.champion} within {100 * found.margin:g} points",
        "too few": f"cannot be compared with {found.champion} yet, {_needed(found)}",
    }[found.verdict]
    numbers = (
        f"{found.n} blind test cases, {found.challenger_errors} wrong against {found.champion_errors}; "
        f"{found.b} only by the new version, {found.c} only by the old one"
    )
    worse = [label for label, part in found.slices.items() if part.verdict == "worse"]
    tail = f" Worse on: {', '.join(worse)}." if worse else ""
    again = f" It is version {found.attempt} that is compared on these cases." if found.attempt > 1 else ""
    return f"{found.challenger} {said}: {numbers}.{tail}{again}"


def _needed(found: Comparison) -> str:
    if found.units == found.n:
        return f"which needs {champion.MIN_PAIRS} cases"
    return f"which needs {champion.MIN_UNITS} units that differ (there are {found.units})"


def _slices(cases: Sequence[Row], new: Sequence[bool], old: Sequence[bool], delta: float) -> dict[str, Slice]:
    # One item per unit would be exact; with several, a slice's p-value is too small, which errs to "worse".
    n: Counter[str] = Counter(str(row.label) for row in cases)
    pairs = {label: [0, 0] for label in sorted(n)}
    for row, x, y in zip(cases, new, old, strict=True):
        if x != y:
            pairs[str(row.label)][0 if x else 1] += 1
    verdicts = champion.slices({label: (b, c) for label, (b, c) in pairs.items()}, delta) if pairs else {}
    return {label: Slice(n[label], b, c, verdicts[label]) for label, (b, c) in pairs.items()}


def _uncompared(challenger: Bundle, incumbent: Bundle | None) -> Comparison:
    kind = challenger.manifest.output.kind
    return Comparison(
        challenger=challenger.id, champion=None if incumbent is None else incumbent.id, n=0, units=0,
        challenger_errors=0, champion_errors=None, verdict="not compared",
        sentence=f"{challenger.id} answers a {kind}; only labels are compared so far.",
    )  # fmt: skip
