"""Put a scoring run together from a project and what the command was told, and do it."""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial
from pathlib import Path

import msgspec

from tenure import system
from tenure.cli.office import Office
from tenure.clock import SystemClock
from tenure.data.schema import InputSchema
from tenure.deploy.offline.folder_sink import FolderSink
from tenure.deploy.offline.force import InForce, in_force
from tenure.deploy.offline.manifest import Format, Manifest, Terms
from tenure.deploy.offline.opened import open_files, open_query
from tenure.deploy.offline.pace import next_time
from tenure.deploy.offline.pool import Alone, Pool
from tenure.deploy.offline.rows import Counts
from tenure.deploy.offline.run import Job, Report, Runner
from tenure.deploy.offline.runlog import RunLog
from tenure.deploy.offline.score import Plan, Scorer, contract
from tenure.deploy.offline.sink import Sink
from tenure.deploy.offline.source import Source, Wanted
from tenure.deploy.offline.sql_sink import SqlSink
from tenure.deploy.offline.table import FIXED, Layout
from tenure.errors import CaseError, ConflictError
from tenure.model.bundle import find_bundle, load, open_bundle, smoke_test
from tenure.model.pipeline import Pipeline
from tenure.scope.project import Project
from tenure.seeds import fresh_u64
from tenure.settings import Settings

KINDS = ("record", "text")


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The command's arguments and options; None = not given."""

    endpoint: str
    output: str
    input: str | None = None
    sql: str | None = None
    url: str | None = None
    key: str | None = None
    version: str | None = None
    format: Format = "parquet"
    chunk: int = 10_000
    limit: int | None = None
    keep: tuple[str, ...] = ()
    predict_only: bool = False
    review: bool = True
    workers: int = 1
    restart: bool = False
    dry_run: bool = False
    deadline: str | None = None


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        state: `finished` by this process, `already` by an earlier one, or `rehearsed`.
        rows, seconds: of this process, without opening input and model.
        failed: code -> rows that this process put into the quarantine.
    """

    state: str
    version: str
    output: str
    counts: Counts
    total: int | None
    rows: int = 0
    seconds: float = 0.0
    failed: dict[str, int] = {}
    manifest: Manifest | None = None

    @property
    def rate(self) -> float:
        """Rows per second of this process."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0


class Parts(msgspec.Struct, frozen=True):
    """What is opened and checked before the first row."""

    source: Source
    pipeline: Pipeline
    plan: Plan
    terms: Terms
    layout: Layout


def score(desk: Office, told: Told, report: Report) -> Done:
    """Check everything, then score, or rehearse the first chunk where that was asked for.

    Raises:
        TenureError: as the parts say; nothing was written when it comes before the first row.
    """
    parts = _open(desk, told)
    if told.dry_run:
        return _rehearse(desk, told, parts, report)
    with _sink(told, parts.layout) as sink:
        fresh = fresh_u64()
        manifest = sink.open(parts.terms, run=fresh, now_us=desk.state.now_us(), restart=told.restart)
        if manifest.state == "finished":
            return Done(
                state="already", version=parts.terms.version, output=sink.name, counts=manifest.counts,
                total=manifest.rows, manifest=manifest,
            )  # fmt: skip
        return _run(desk, told, parts, sink, manifest, report, resumed=manifest.number != fresh)


def load_version(project: Project, version: str) -> Pipeline:
    """Load a version as a worker does: from its bundle, tested with its sample."""
    if project.root not in sys.path:
        sys.path.insert(0, project.root)
    bundle = open_bundle(find_bundle(project.folder(), version))
    pipeline = load(bundle, trusted=project.trust, clock=SystemClock())
    smoke_test(pipeline, bundle)
    return pipeline


def _open(desk: Office, told: Told) -> Parts:
    name = desk.endpoint(told.endpoint)
    spec, output = desk.spec(name), desk.project.output(name)
    if spec.input not in KINDS:
        raise CaseError(
            f"{name} takes {spec.input}; rows can be scored for endpoints that take {' or '.join(KINDS)}", at=name
        )
    schema, layout = InputSchema.of(spec), Layout.of(output, told.keep)
    taken = sorted(set(told.keep) & {*FIXED, *layout.chances})
    if taken:
        raise CaseError(f"the output has a column {taken[0]} of its own; rename it in the input", at="--keep")
    wanted = Wanted(schema, told.keep)
    source = _source(told, wanted)
    version = _version(desk, told, name)
    pipeline = load_version(desk.project, version)
    plan = Plan(
        endpoint=name, version=version, spec=spec, output=output, wanted=wanted, run=0,
        secret=system.secret(desk.folder),
    )  # fmt: skip
    is_table = "://" in told.output
    terms = Terms(
        endpoint=name, version=version, input=source.fingerprint(), contract=contract(spec, output),
        format="sql" if is_table else told.format, chunk=told.chunk, limit=told.limit, keep=told.keep,
        predict_only=told.predict_only, review=told.review,
    )  # fmt: skip
    return Parts(source, pipeline, plan, terms, layout)


def _source(told: Told, wanted: Wanted) -> Source:
    if told.sql is not None:
        return open_query(told.url, told.sql, told.key, wanted)
    if told.input is None:
        raise CaseError("what is to be scored? Name files, or a query with --sql and --from", at="input")
    return open_files(told.input, wanted)


def _version(desk: Office, told: Told, endpoint: str) -> str:
    if told.version is not None:
        found = desk.registry.describe(told.version)
        if found.endpoint != endpoint:
            raise ConflictError(
                f"{told.version} is a version of {found.endpoint}, not of {endpoint}", at="--version"
            )
        return told.version
    with desk.state.read() as conn:
        stable = desk.rollouts.stable(conn, endpoint)
    if stable is None:
        raise ConflictError(f"{endpoint} has no version in force; register one, or say --version", at=endpoint)
    return stable


def _sink(told: Told, layout: Layout) -> FolderSink | SqlSink:
    if "://" in told.output:
        return SqlSink(told.output, layout)
    return FolderSink(Path(told.output), layout, told.format)


def _run(
    desk: Office, told: Told, parts: Parts, sink: Sink, manifest: Manifest, report: Report, *, resumed: bool
) -> Done:  # fmt: skip
    plan = msgspec.structs.replace(parts.plan, run=manifest.number)
    scorer = Scorer(plan, parts.pipeline, clock=desk.state.clock)
    log = RunLog(desk.folder, plan.run, scorer.schema, settings=Settings(), clock=desk.state.clock)
    runner, workers = _runner(desk, told, parts, scorer, report)
    start, before = desk.state.clock.monotonic_ns(), manifest.rows
    try:
        done = runner.run(sink, log, manifest, resumed=resumed)
    finally:
        log.close()
        workers.close()
    return Done(
        state="finished", version=plan.version, output=sink.name, counts=done.counts, total=runner.total,
        rows=done.rows - before, seconds=(desk.state.clock.monotonic_ns() - start) / 1e9,
        failed=dict(runner.failed), manifest=done,
    )  # fmt: skip


def _rehearse(desk: Office, told: Told, parts: Parts, report: Report) -> Done:
    plan = msgspec.structs.replace(parts.plan, run=fresh_u64())
    alone = msgspec.structs.replace(told, workers=1)
    runner, _ = _runner(desk, alone, parts, Scorer(plan, parts.pipeline, clock=desk.state.clock), report)
    start = desk.state.clock.monotonic_ns()
    counted = runner.rehearse()
    return Done(
        state="rehearsed", version=plan.version, output=told.output, counts=counted, total=runner.total,
        rows=counted.rows, seconds=(desk.state.clock.monotonic_ns() - start) / 1e9, failed=dict(runner.failed),
    )  # fmt: skip


def _runner(
    desk: Office, told: Told, parts: Parts, scorer: Scorer, report: Report
) -> tuple[Runner, Alone | Pool]:  # fmt: skip
    name, clock = parts.plan.endpoint, desk.state.clock
    job = Job(
        terms=parts.terms, pinned=told.version is not None, data=desk.folder,
        hold_s=parts.plan.spec.serve.on_controller_lost.hold,
        deadline_ns=next_time(told.deadline, clock.now_ns()) if told.deadline else 0,
    )  # fmt: skip
    loader = partial(load_version, desk.project)
    workers = Pool(scorer.plan, loader, told.workers) if told.workers > 1 else Alone(scorer)

    def now() -> InForce:
        return in_force(desk.state, desk.automation, desk.rollouts, name, write=not told.dry_run)

    made = Runner(job, parts.source, scorer=scorer, workers=workers, in_force=now, clock=clock, report=report)
    return made, workers


def reasons(failed: Counter[str] | dict[str, int]) -> str:
    """Return the commonest reasons of the quarantine in words, such as `null_field 5, out_of_range 2`."""
    return ", ".join(f"{code} {n:,}" for code, n in Counter(failed).most_common(5))
