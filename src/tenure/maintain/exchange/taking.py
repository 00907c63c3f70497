"""Judgements of other tools into the review queue: each once, by the queue's rules, and exactly counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import msgspec
import sqlalchemy as sa

from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.review.items import Submission
from tenure.deploy.review.queue import ReviewQueue
from tenure.errors import TenureError
from tenure.maintain.exchange.entry import Taken
from tenure.seeds import fresh_token

AT_ONCE = 200
MOST_FAULTS = 20
NOTHING_NEW, LEASED = "nothing_new", "leased"


class Report(msgspec.Struct, kw_only=True):
    """What became of a file's judgements; they add up to `read`.

    Attributes:
        stored: new judgements; `late` of them came after the deadline, for training only, and `corrected` of them
            stand in place of an earlier form.
        known: stored by an earlier import, older than what is stored, or our own that came back.
        waiting: kept until nobody reads their items; in a webhook alone.
        refused: code of the error -> how many.
        faults: the first 20 refusals in words.
    """

    read: int = 0
    stored: int = 0
    late: int = 0
    corrected: int = 0
    known: int = 0
    waiting: int = 0
    refused: dict[str, int] = {}
    faults: list[str] = []


def take(
    state: State, queue: ReviewQueue, endpoint: str, found: Iterable[Taken], *,
    progress: Callable[[int], None] = lambda n: None, held: list[Taken] | None = None,
) -> Report:  # fmt: skip
    """Store the judgements about an endpoint's items, 200 in one transaction.

    With `held` those whose item somebody is reading now are put there instead of being refused.

    Raises:
        CaseError: the file cannot be read on; what came before is stored, and a second import goes on from there.
    """
    report, refused = Report(), Counter[str]()
    for some in _parts(found):
        keys, homes = _known(state, some)
        stems = _begun(state, some)
        back = _came_back(state, some)
        report.known += len(back)
        theirs = [o for o in some if o.at not in back and homes.get(o.item, endpoint) == endpoint]
        subs = [_submission(one) for one in theirs]
        answers = queue.take_in(subs, shown=[one.shown for one in theirs], stems=[one.stem for one in theirs])
        report.read += len(some)
        refused["another_endpoint"] += len(some) - len(theirs) - len(back)
        for one, answer in zip(theirs, answers, strict=True):
            if isinstance(answer, TenureError) and answer.code == NOTHING_NEW:
                report.known += 1
            elif isinstance(answer, TenureError) and answer.code == LEASED and held is not None:
                held.append(one)
                report.waiting += 1
            elif isinstance(answer, TenureError):
                refused[answer.code] += 1
                if len(report.faults) < MOST_FAULTS:
                    report.faults.append(f"{one.at}: {answer.message}")
            elif one.key in keys:
                report.known += 1
            else:
                keys.add(one.key)
                report.stored += 1
                report.late += answer.late
                report.corrected += one.stem in stems
                stems.add(one.stem or one.key)
        progress(report.read)
    report.refused = {code: n for code, n in sorted(refused.items()) if n}
    return report


def take_back(state: State, queue: ReviewQueue, endpoint: str, numbers: Iterable[str]) -> Report:
    """Take back the judgements whose annotations were deleted in Label Studio, which tells nothing but their ids.

    `stored` counts those that are gone now, `known` those that were gone before. An id that several items of the
    endpoint have, since two projects send here, is refused as `ambiguous`.
    """
    report, refused = Report(), Counter[str]()
    for number in numbers:
        report.read += 1
        found = sorted(_items_of(state, endpoint, number))
        if len(found) != 1:
            code = "ambiguous" if found else "not_found"
            refused[code] += 1
            report.faults.append(f"annotation {number}: {len(found)} items of {endpoint} have a judgement of it")
        elif queue.take_back(found[0], f"label_studio:{found[0]}:{number}:"):
            report.stored += 1
        else:
            report.known += 1
    report.refused = dict(sorted(refused.items()))
    return report


def pattern(number: str) -> str:
    """Return what the keys of all judgements of an annotation are LIKE, escaped by a backslash."""
    return "label\\_studio:%:" + re.sub(r"([\\%_])", r"\\\1", number) + ":%"


def _items_of(state: State, endpoint: str, number: str) -> set[str]:
    j, i = t.judgements.c, t.review_items.c
    query = sa.select(j.item).join(t.review_items, i.id == j.item).where(i.endpoint == endpoint)
    with state.read() as conn:
        rows = conn.execute(query.where(j.key.like(pattern(number), escape="\\"), j.skip.is_(None)))
        return {str(item) for item in rows.scalars()}


def _parts(found: Iterable[Taken]) -> Iterator[list[Taken]]:
    every = iter(found)
    while some := list(islice(every, AT_ONCE)):
        yield some


def _known(state: State, some: Sequence[Taken]) -> tuple[set[str], dict[str, str]]:
    j, i = t.judgements.c, t.review_items.c
    with state.read() as conn:
        keys = conn.execute(sa.select(j.key).where(j.key.in_([one.key for one in some]))).scalars()
        homes = conn.execute(sa.select(i.id, i.endpoint).where(i.id.in_([one.item for one in some])))
        return set(keys), {row.id: row.endpoint for row in homes}


def _begun(state: State, some: Sequence[Taken]) -> set[str]:
    """Return the stems of which a judgement is stored."""
    j = t.judgements.c
    with state.read() as conn:
        stored = sa.select(j.item, j.key).where(j.item.in_({one.item for one in some if one.stem}))
        rows = conn.execute(stored).all()
    known: dict[str, list[str]] = {}
    for row in rows:
        known.setdefault(row.item, []).append(row.key)
    return {o.stem for o in some if o.stem and any(key.startswith(o.stem) for key in known.get(o.item, ()))}


def _came_back(state: State, some: Sequence[Taken]) -> set[str]:
    """Return where the judgements stand that we handed out: taken in again, they would be a second reader."""
    j, ours = t.judgements.c, {one.ours: one for one in some if one.ours is not None}
    with state.read() as conn:
        rows = conn.execute(sa.select(j.id, j.item, j.reader).where(j.id.in_(list(ours)))).all()
    same = (row for row in rows if ours[row.id].item == row.item)
    return {ours[row.id].at for row in same if ours[row.id].reader.partition(":")[2] == row.reader}


def _submission(one: Taken) -> Submission:
    return Submission(
        item=one.item, reader=one.reader, token=fresh_token("l"), value=one.value, key=one.key,
        regions=one.regions, seconds=one.seconds,
    )  # fmt: skip
