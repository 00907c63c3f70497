"""The incumbent against the new version on the frozen test of a snapshot: paired, one look, in words.

Only fair cases count: drawn without regard to a score and judged blind. What people see at `partial` is what the
incumbent was unsure of, where it errs more than elsewhere, so that even a worse challenger would pass; and what
people judge with its answer before them leans its way.
What is wrong is the endpoint's `automation.loss`; without one, another value than the label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Literal

import msgspec

from tenure.data.decode import decode
from tenure.deploy import loss
from tenure.deploy.loss import Said
from tenure.deploy.review.resolve import same
from tenure.maintain.snapshot import Row, Snapshot
from tenure.model import bundle
from tenure.model.bundle import Bundle
from tenure.model.pipeline import Pipeline
from tenure.model.trust import NOTHING
from tenure.scope.project import LossSpec, Trust
from tenure.stats import champion
from tenure.types import Failed, Input, Prediction

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
        challenger_loss, champion_loss: mean loss, where losses between 0 and 1 occur.
        b, c: cases that only the challenger, only the champion got wrong.
        verdict: `not worse` = shown not to be worse by more than `margin`.
        p, level: one-sided p-value and what it had to fall below; None without a test.
        attempt: 1 for the first version that is compared on these cases; each further one has less to spend.
        slices: true label -> its cases; none where answers are no labels.
        loss: what counts as wrong, in words; "" for another value than the label.
        from_us, until_us: times of the oldest and the newest case.
        sentence: the same in words.
    """

    challenger: str
    champion: str | None
    n: int
    units: int
    challenger_errors: int
    champion_errors: int | None
    challenger_loss: float | None = None
    champion_loss: float | None = None
    loss: str = ""
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
    by: LossSpec = loss.EQUAL,
) -> Comparison:
    """Run both versions on the fair test cases of a snapshot and say whether the new one is not worse.

    `trusted` is the operator's word on files that may run code; `by` says what counts as wrong.

    Raises:
        ModelError: a version cannot be loaded.
        CaseError: an input cannot be decoded any more.
    """
    labels = challenger.manifest.output.kind == "label"
    if not labels and by == loss.EQUAL:
        return _uncompared(challenger, incumbent)
    cases = [row for row in snapshot.rows() if row.split == "test" and row.fair]
    new = losses(bundle.load(challenger, trusted=trusted), challenger, snapshot, cases=cases, by=by)
    old = None
    if incumbent is not None:
        old = losses(bundle.load(incumbent, trusted=trusted), incumbent, snapshot, cases=cases, by=by)
    by_label = labels and by.iou is None
    found = judge(cases, new, old, attempt=attempt, margin=margin, delta=delta, sliced=by_label)
    named = msgspec.structs.replace(
        found, challenger=challenger.id, champion=None if incumbent is None else incumbent.id,
        loss="" if by == loss.EQUAL else loss.words_of(by),
    )  # fmt: skip
    return msgspec.structs.replace(named, sentence=sentence(named))


def losses(
    pipeline: Pipeline, made: Bundle, snapshot: Snapshot, *, cases: Sequence[Row], by: LossSpec = loss.EQUAL
) -> list[float]:
    """Return the loss in [0, 1] of a version's answer to each case; a missing answer is the worst mistake."""
    out: list[float] = []
    rows = iter(cases)
    while batch := list(islice(rows, _BATCH)):
        answers = pipeline.run([input_of(row, made, snapshot) for row in batch])
        for row, answer in zip(batch, answers, strict=True):
            said = answer.prediction
            out.append(1.0 if isinstance(said, Failed) else _loss(by, row, said))
    return out


def _loss(by: LossSpec, row: Row, said: Prediction) -> float:
    if by == loss.EQUAL:
        return float(not same(said.value, row.label))
    return loss.of(by, Said(row.label, row.boxes), Said(said.value, said.regions))


def input_of(row: Row, made: Bundle, snapshot: Snapshot) -> Input:
    """Return the input of a row as the version gets it when serving."""
    schema = made.manifest.input
    if row.file is not None:
        return decode(schema, (snapshot.path / row.file).read_bytes(), row.media_type)
    return str(row.record) if schema.kind == "text" else schema.check_record(row.record)


def judge(
    cases: Sequence[Row],
    new: Sequence[float],
    old: Sequence[float] | None,
    *,
    attempt: int = 1,
    margin: float = MARGIN,
    delta: float = DELTA,
    sliced: bool = True,
) -> Comparison:
    """Judge who was wrong where: by counts where all losses are 0 or 1, else by the losses themselves.

    Args:
        cases: (n,) the rows, oldest first.
        new: (n,) the challenger's losses in [0, 1]; true and false for wrong and right.
        old: (n,) the champion's; None without one.
        attempt: 1 for the first challenger on these cases, and so on.
        margin: tolerated increase of the error rate.
        delta: chance that a version that is worse by the margin passes, over all attempts.
        sliced: judge the cases of each label apart.
    """
    graded = any(x not in (0, 1) for x in (*new, *(old or ())))
    times = [row.at_us for row in cases]
    units = Counter(row.unit or row.id for row in cases)
    basis = Comparison(
        challenger="", champion=None, n=len(cases), units=len(units), challenger_errors=_wrong(new),
        champion_errors=None, verdict="no incumbent", margin=margin, attempt=attempt,
        challenger_loss=_mean(new) if graded else None,
        from_us=min(times, default=None), until_us=max(times, default=None),
    )  # fmt: skip
    if old is None:
        return basis
    gaps = [float(x) - float(y) for x, y in zip(new, old, strict=True)]
    b, c = sum(gap > 0.0 for gap in gaps), sum(gap < 0.0 for gap in gaps)
    if len(units) != len(cases):
        sums = dict.fromkeys(units, 0.0)
        for row, gap in zip(cases, gaps, strict=True):
            sums[row.unit or row.id] += gap
        tested = champion.compare_units(
            list(units.values()), list(sums.values()), margin=margin, delta=delta, attempt=attempt
        )
    elif graded:
        tested = champion.compare_losses(gaps, margin=margin, delta=delta, attempt=attempt)
    else:
        tested = champion.compare(b, c, len(cases), margin=margin, delta=delta, attempt=attempt)
    return msgspec.structs.replace(
        basis, champion_errors=_wrong(old), b=b, c=c, verdict=tested.verdict, p=tested.p, level=tested.level,
        slices=_slices(cases, gaps, delta) if sliced else {}, champion_loss=_mean(old) if graded else None,
    )  # fmt: skip


def _wrong(found: Sequence[float]) -> int:
    return sum(x > 0 for x in found)


def _mean(found: Sequence[float]) -> float:
    return sum(found) / len(found) if found else 0.0


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
    if found.challenger_loss is not None:
        means = f"mean loss {found.challenger_loss:.4f} against {found.champion_loss:.4f}"
        numbers = f"{found.n} blind test cases, {means}; higher in {found.b}, lower in {found.c}"
    else:
        numbers = _errors(found)
    numbers += f" ({found.loss})" if found.loss else ""
    worse = [label for label, part in found.slices.items() if part.verdict == "worse"]
    tail = f" Worse on: {', '.join(worse)}." if worse else ""
    again = f" It is version {found.attempt} that is compared on these cases." if found.attempt > 1 else ""
    return f"{found.challenger} {said}: {numbers}.{tail}{again}"


def _errors(found: Comparison) -> str:
    return (
        f"{found.n} blind test cases, {found.challenger_errors} wrong against {found.champion_errors}; "
        f"{found.b} only by the new version, {found.c} only by the old one"
    )


def _needed(found: Comparison) -> str:
    if found.units == found.n:
        return f"which needs {champion.MIN_PAIRS} cases"
    return f"which needs {champion.MIN_UNITS} units that differ (there are {found.units})"


def _slices(cases: Sequence[Row], gaps: Sequence[float], delta: float) -> dict[str, Slice]:
    # One item per unit would be exact; with several, a slice's p-value is too small, which errs to "worse".
    n: Counter[str] = Counter(str(row.label) for row in cases)
    pairs = {label: [0, 0] for label in sorted(n)}
    for row, gap in zip(cases, gaps, strict=True):
        if gap:
            pairs[str(row.label)][0 if gap > 0.0 else 1] += 1
    verdicts = champion.slices({label: (b, c) for label, (b, c) in pairs.items()}, delta) if pairs else {}
    return {label: Slice(n[label], b, c, verdicts[label]) for label, (b, c) in pairs.items()}


def _uncompared(challenger: Bundle, incumbent: Bundle | None) -> Comparison:
    kind = challenger.manifest.output.kind
    return Comparison(
        challenger=challenger.id, champion=None if incumbent is None else incumbent.id, n=0, units=0,
        challenger_errors=0, champion_errors=None, verdict="not compared",
        sentence=f"{challenger.id} answers a {kind}; without automation.loss nothing says when one is wrong.",
    )  # fmt: skip
