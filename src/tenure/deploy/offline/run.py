"""The run: chunk after chunk is read, scored, logged and committed, and a killed run goes on where it was."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from tenure.clock import Clock
from tenure.data.records import encode_id
from tenure.deploy.offline import force, pace
from tenure.deploy.offline.ahead import ahead, chunked
from tenure.deploy.offline.force import Force, Rules
from tenure.deploy.offline.manifest import Manifest, Terms
from tenure.deploy.offline.pace import Pace, Progress
from tenure.deploy.offline.rows import Answered, Counts, Item, Rejected, Scored, counts
from tenure.deploy.offline.runlog import RunLog, from_log
from tenure.deploy.offline.score import Scorer, seq_of
from tenure.deploy.offline.sink import Sink
from tenure.deploy.offline.source import Source
from tenure.errors import ConflictError

BATCH = 1000
"""Rows that the model gets at once, and rows per frame of the log: a controller's tick reads a few of them."""

Report = Callable[[Progress], None]


class Workers(Protocol):
    """Scores batches in order: `pool.Alone` or `pool.Pool`."""

    def map(self, batches: Sequence[Sequence[Item]], rules: Rules) -> Iterator[Scored]: ...


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is made of.

    Attributes:
        terms: what must not change while it runs.
        pinned: the version was named, so that another one coming into force is no reason to stop.
        data: the data folder of the project.
        deadline_ns: wall time by which it should be done; 0 = none.
    """

    terms: Terms
    pinned: bool
    data: Path
    hold_s: float
    deadline_ns: int = 0


class Runner:
    """Does one run. Everything that it needs is handed in by the command; `failed` counts reasons by code.

    The order within a chunk makes every crash harmless: frames of the log, then the output, then the line that
    commits it. What was logged but not committed is answered from the log by the next process.
    """

    def __init__(
        self, job: Job, source: Source, *, scorer: Scorer, workers: Workers, in_force: Force, clock: Clock,
        report: Report,
    ) -> None:  # fmt: skip
        self._job, self._source, self._scorer, self._workers = job, source, scorer, workers
        self._in_force, self._clock, self._report = in_force, clock, report
        self.failed: Counter[str] = Counter()

    def run(self, sink: Sink, log: RunLog, manifest: Manifest, *, resumed: bool) -> Manifest:
        """Score what is not committed yet and return the finished manifest.

        Args:
            sink: the locked output.
            log: of this run.
            manifest: how far the run came.
            resumed: another process began it, and may have logged rows that it did not commit.

        Raises:
            ConflictError: the input changed while it was read, or the version went out of force. What is
                committed stays.
        """
        known = log.known(manifest.rows) if resumed else {}
        self._pace = Pace(manifest.rows, self._clock.monotonic_ns())
        chunks = ahead(chunked(self._items(manifest.rows), self._job.terms.chunk))
        try:
            for chunk in chunks:
                answered, rejected = self._chunk(chunk, log, known, manifest.counts)
                log.sync()
                manifest = sink.commit(manifest, answered, rejected)
        finally:
            chunks.close()  # type: ignore[attr-defined]
        self._check_end(manifest)
        return sink.finish(manifest, now_us=self._clock.now_ns() // 1000)

    def rehearse(self) -> Counts:
        """Score one chunk and write nothing."""
        self._pace = Pace(0, self._clock.monotonic_ns())
        chunk = list(itertools.islice(self._items(0), self._job.terms.chunk))
        answered, rejected = self._score(chunk, None, Counts())
        return counts(answered, rejected)

    @property
    def total(self) -> int | None:
        """Rows that the run has in all, as far as that is known."""
        total, limit = self._source.total, self._job.terms.limit
        return total if limit is None else limit if total is None else min(total, limit)

    def _items(self, start: int) -> Iterator[Item]:
        limit = self._job.terms.limit
        items = self._source.items(start)
        return items if limit is None else itertools.islice(items, max(0, limit - start))

    def _chunk(
        self, chunk: Sequence[Item], log: RunLog, known: dict[int, dict[str, object]], before: Counts
    ) -> tuple[list[Answered], list[Rejected]]:
        """Score and log a chunk; rows that were logged before its first commit are taken from there."""
        old = [item for item in chunk if item.row in known]
        run, secret = self._scorer.plan.run, self._scorer.plan.secret
        ids = [encode_id(run, seq_of(item.row), secret) for item in old]
        answered, rejected = from_log(self._scorer, old, known, ids)
        new = [item for item in chunk if item.row not in known] if old else chunk
        more, worse = self._score(new, log, before + counts(answered, rejected))
        if not old:
            return more, worse
        return sorted(answered + more, key=_row), sorted(rejected + worse, key=_row)

    def _score(
        self, items: Sequence[Item], log: RunLog | None, before: Counts
    ) -> tuple[list[Answered], list[Rejected]]:
        answered: list[Answered] = []
        rejected: list[Rejected] = []
        for scored in self._workers.map(list(chunked(items, BATCH)), self._rules()):
            if log is not None and scored.frame is not None:
                log.append(scored.frame)
            answered += scored.answered
            rejected += scored.rejected
            self.failed.update(row.code for row in scored.rejected)
            self._tell(before.rows + len(answered) + len(rejected), before.quarantined + len(rejected))
        return answered, rejected

    def _rules(self) -> Rules:
        """Ask what is in force, for each chunk: so a level that falls or a roll-back reaches a run on its way."""
        now, terms, now_ns = self._in_force(), self._job.terms, self._clock.now_ns()
        if not self._job.pinned:
            force.check_stable(now, terms.version, endpoint=terms.endpoint)
        watched = force.watched(self._job.data, hold_s=self._job.hold_s, now_ns=now_ns)
        return force.rules(
            now, terms.version, now_ns=now_ns, watched=watched, predict_only=terms.predict_only,
            review=terms.review,
        )  # fmt: skip

    def _tell(self, rows: int, quarantined: int) -> None:
        mono, total = self._clock.monotonic_ns(), self.total
        rate = self._pace.mark(rows, mono)
        late = None
        if self._job.deadline_ns and total is not None and self._pace.is_settled(mono):
            seconds = (self._job.deadline_ns - self._clock.now_ns()) / 1e9
            late = pace.lateness(rows, total, rate, seconds=seconds)
        self._report(Progress(rows, total, quarantined, rate, pace.left_s(rows, total, rate), late))

    def _check_end(self, manifest: Manifest) -> None:
        """Refuse to call a run finished whose input is not what it was at its start."""
        expected = self.total if self._source.is_exact else manifest.rows
        if manifest.rows != expected or self._source.fingerprint() != manifest.terms.input:
            raise ConflictError(
                f"the input changed while it was read ({manifest.rows:,} rows are committed); "
                "start over with --restart",
                code="run_changed",
            )


def _row(row: Answered | Rejected) -> int:
    return row.row
