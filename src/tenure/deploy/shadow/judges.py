"""Who is wrong, and whether the model is as good as the person: from the items that were read again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from tenure.deploy.shadow.cases import Case, Same, independent
from tenure.deploy.shadow.settings import Settings
from tenure.stats import agreement, reread
from tenure.stats.reread import Rate, Stratum

RISK = 0.05


class Reread(msgspec.Struct, frozen=True):
    """How many items of a kind there are, were drawn to be read again, and still wait for it."""

    items: int
    read: int
    waiting: int
    both_wrong: int
    model_wrong: int
    person_wrong: int


class Test(msgspec.Struct, frozen=True):
    """A test of "the model's error is larger than the person's by `margin` or more".

    Attributes:
        outcome: `pass` is shown; `wait` is not shown yet; `no_data` cannot be computed.
        reason: what it rests on, or what is missing, in words.
        items: items looked at.
        statistic: z of the one look, log e-value of the repeated one; None where not computed.
        labels_needed: judged items still needed at the present rates; 0 once decided, None if no number helps.
    """

    outcome: Literal["pass", "wait", "no_data"]
    reason: str
    items: int = 0
    statistic: float | None = None
    labels_needed: int | None = None


class Judges(msgspec.Struct, frozen=True):
    """Both judges against the truth.

    Attributes:
        disagreements: what the readings of disagreements found.
        agreements: the same for agreements.
        independent: items counted in bounds and tests: one of each unit.
        model: the model's error rate.
        person: the person's error rate.
        model_alone: independent items where only the model was wrong, of those read again.
        person_alone: the same for the person.
        mcnemar: two-sided p that both are equally frequent; None without any.
        once: Tango's test, looked at once at the planned number.
        always: the betting version, which may be looked at any time.
    """

    disagreements: Reread
    agreements: Reread
    independent: int
    model: Rate
    person: Rate
    model_alone: int
    person_alone: int
    mcnemar: float | None
    once: Test
    always: Test


def judge(cases: Sequence[Case], same: Same, settings: Settings) -> Judges:
    """Compare both judges with the truth on the items that were read again.

    Args:
        cases: in draw order.
        same: whether two answers count as the same.
        settings: margin, planned number, and the shares that are read again.
    """
    apart = independent(cases)
    alone = [difference(case, same) for case in apart if case.truth is not None]
    b, c = alone.count(1), alone.count(-1)
    return Judges(
        _reread([case for case in cases if not same(case.model, case.person)], same),
        _reread([case for case in cases if same(case.model, case.person)], same),
        len(apart),
        error(apart, same, of="model"),
        error(apart, same, of="person"),
        b,
        c,
        agreement.mcnemar(b, c) if b + c else None,
        once(apart, same, settings),
        always(apart, same, settings),
    )


def difference(case: Case, same: Same) -> int:
    """Return +1 where only the model is wrong, -1 where only the person is, else 0; the truth must be known."""
    assert case.truth is not None
    return int(not same(case.model, case.truth)) - int(not same(case.person, case.truth))


def error(cases: Sequence[Case], same: Same, *, of: Literal["model", "person"]) -> Rate:
    """Return one judge's error rate with bounds of 95 % each.

    The strata are those of the draw: items where the reader differed from this version, from another version
    only, and from none.
    """
    strata: dict[tuple[bool, bool], list[Case]] = {}
    for case in cases:
        strata.setdefault((same(case.model, case.person), not case.differed), []).append(case)
    return reread.rate([_stratum(strata[key], same, of) for key in sorted(strata)], 1.0 - RISK)


def once(cases: Sequence[Case], same: Same, settings: Settings) -> Test:
    """Take the one look at the first `planned` items; a look before or after changes nothing.

    Items that still wait for their second reader count against the model. It needs a truth for every
    disagreement, as otherwise the pairs are not unweighted.
    """
    seen = cases[: settings.planned]
    if unknown := sum(_difference_or_none(case, same, settings) is None for case in seen):
        return Test(
            "no_data",
            f"{unknown} items where the two may differ were not drawn to be read again; "
            "this test needs all of them (review.second_reader.disagreements: 1)",
            len(seen),
        )
    x = [d for case in seen if (d := _difference_or_none(case, same, settings)) is not None]
    b, c, n = x.count(1), x.count(-1), len(x)
    if n < settings.planned:
        missing = settings.planned - n
        return Test("wait", f"{missing} more judged items until the planned look", n, None, missing)
    found = agreement.tango(b, c, n, settings.margin)
    if found.p < RISK:
        return Test("pass", f"{_ends(b, c, n)}, p = {found.p:.2g}", n, found.z, 0)
    return Test(
        "wait",
        f"not shown at the planned number: {_ends(b, c, n)}, p = {found.p:.2g}; "
        "a second look needs a new plan on new items",
        n,
        found.z,
        agreement.tango_needed(b, c, n, settings.margin),
    )


def _ends(b: int, c: int, n: int) -> str:
    return f"only the model wrong in {b}, only the person in {c} of {n:,} items"


def always(cases: Sequence[Case], same: Same, settings: Settings) -> Test:
    """Bet in draw order; undrawn items weigh nothing, drawn ones 1 / their chance."""
    chances = [_chance(case, same, settings) for case in cases]
    if not cases or 0.0 in chances:
        why = "nothing was judged yet" if not cases else "some items have no chance of being read again"
        return Test("no_data", why, len(cases))
    bets = [_bet(case, same, settings) for case in cases]
    x, weights = [d for d, _ in bets], [w for _, w in bets]
    least, n = least_chance(settings), len(cases)
    log_e = agreement.betting_path(x, weights, settings.margin, least=least)
    if log_e >= -math.log(RISK):
        return Test("pass", _evidence(log_e), n, log_e, 0)
    needed = agreement.betting_needed(x, weights, settings.margin, least=least, risk=RISK)
    more = None if needed is None else max(1, needed - n)
    return Test("wait", _evidence(log_e), n, log_e, more)


def _evidence(log_e: float) -> str:
    found = f"{math.exp(log_e):,.1f}" if log_e < math.log(1e6) else "over 1,000,000"
    return f"evidence {found}, where {1 / RISK:.0f} shows it"


def _bet(case: Case, same: Same, settings: Settings) -> tuple[int, float]:
    """Return an item's difference and weight; one that had to be read again and was not counts as the model's."""
    known, chance = _difference_or_none(case, same, settings), _chance(case, same, settings)
    if known is None:
        return (1, 1.0) if chance == 1.0 else (0, 0.0)
    return known, 1.0 / chance


def least_chance(settings: Settings) -> float:
    """Return the smallest chance with which an item's difference becomes known."""
    second = settings.second
    if _equivalence(settings):
        return second.disagreements
    return min(second.disagreements, second.agreements)


def _equivalence(settings: Settings) -> bool:
    """Say whether two answers that are the same are both right or both wrong.

    That is so for classes and words. Boxes that overlap and numbers within a tolerance may lie on different
    sides of the truth.
    """
    if settings.kind == "regression":
        return settings.tolerance == 0.0
    return settings.kind != "detection"


def _difference_or_none(case: Case, same: Same, settings: Settings) -> int | None:
    """Return the difference of errors, 0 where both said the same, 1 while the second reader is awaited."""
    if _equivalence(settings) and same(case.model, case.person):
        return 0
    if case.truth is not None:
        return difference(case, same)
    return 1 if case.waiting else None


def _chance(case: Case, same: Same, settings: Settings) -> float:
    if case.readers > 1 or (_equivalence(settings) and same(case.model, case.person)):
        return 1.0
    second = settings.second
    return second.disagreements if case.differed else second.agreements


def _stratum(cases: Sequence[Case], same: Same, of: Literal["model", "person"]) -> Stratum:
    read = [case for case in cases if case.truth is not None]
    wrong = sum(case.truth is not None and not same(getattr(case, of), case.truth) for case in read)
    return Stratum(len(cases), len(read), wrong)


def _reread(cases: Sequence[Case], same: Same) -> Reread:
    model, person = _stratum(cases, same, "model"), _stratum(cases, same, "person")
    both = sum(
        case.truth is not None and not same(case.model, case.truth) and not same(case.person, case.truth)
        for case in cases
    )
    waiting = sum(case.waiting for case in cases)
    return Reread(len(cases), model.read, waiting, both, model.wrong, person.wrong)
