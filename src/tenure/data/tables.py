"""The tables of the control state; SQLite or PostgreSQL. The prediction log is not here.

Times are UTC microseconds (`_us`), JSON is text, booleans are 0/1 integers, so that both databases agree.
The controller and the commands write, one at a time (`State.begin`). One transaction per command: the change, its
`audit` row, and the outbox row. The workers of the data plane never open it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

# Autoincrement on SQLite needs INTEGER; PostgreSQL wants BIGINT.
_SERIAL = BigInteger().with_variant(Integer, "sqlite")


def _table(name: str, *items: Column | Index | UniqueConstraint) -> Table:  # type: ignore[type-arg]
    return Table(name, metadata, *items)


def _id() -> Column:  # type: ignore[type-arg]
    return Column("id", _SERIAL, primary_key=True, autoincrement=True)


meta = _table("meta", Column("key", String, primary_key=True), Column("value", Text, nullable=False))

principals = _table(
    "principals",
    Column("name", String, primary_key=True),
    Column("role", String, nullable=False),  # viewer | reviewer | adjudicator | operator | client
    Column("token_sha256", String, nullable=False, unique=True),
    Column("created_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
)

versions = _table(
    "versions",
    Column("id", String, primary_key=True),  # name@sha8, unique in the project
    Column("endpoint", String, nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("sha", String, nullable=False),  # SHA-256 of the manifest; names the folder bundles/<sha>
    Column("manifest", Text, nullable=False),
    Column("provenance", Text, nullable=False),  # parent, snapshot, command, metrics
    Column("state", String, nullable=False),  # registered | live | retired
    Column("created_us", BigInteger, nullable=False),
    Column("created_by", String, nullable=False),
)

events = _table(  # notes such as "new coating", drawn on every chart
    "events",
    _id(),
    Column("endpoint", String),  # NULL = the whole project
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("text", Text, nullable=False),
    Column("author", String, nullable=False),
)

policies = _table(  # immutable; routing and decisions name them by id
    "policies",
    _id(),
    Column("endpoint", String, nullable=False, index=True),
    Column("segment", String, nullable=False, server_default=""),  # empty = all that have no level of their own
    Column("body", Text, nullable=False),  # JSON of router.Policy
    Column("created_us", BigInteger, nullable=False),
    Column("cause", Text, nullable=False),
)

routing_tables = _table(  # append-only: answers "what was live at time T"
    "routing_tables",
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("made_us", BigInteger, nullable=False, index=True),
    Column("cause", Text, nullable=False),
    Column("body", Text, nullable=False),  # JSON of router.Table
)

rollouts = _table(
    "rollouts",
    Column("id", String, primary_key=True),
    Column("endpoint", String, nullable=False, index=True),
    Column("candidate", String, nullable=False),
    Column("stable", String),
    Column("plan", Text, nullable=False),  # JSON of rollout.plan.Plan
    Column("evidence_key", String, nullable=False),  # hash of (candidate, stable, gates)
    Column("state", String, nullable=False),
    # draft | running | paused | completed | rolled_back | cancelled
    Column("step", Integer, nullable=False),
    Column("step_started_us", BigInteger, nullable=False),
    Column("salt", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("created_by", String, nullable=False),
)

rollout_moves = _table(  # every transition with the numbers that caused it
    "rollout_moves",
    _id(),
    Column("rollout", String, nullable=False, index=True),
    Column("at_us", BigInteger, nullable=False),
    Column("from_state", String, nullable=False),
    Column("to_state", String, nullable=False),
    Column("from_step", Integer, nullable=False),
    Column("to_step", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("numbers", Text, nullable=False),  # JSON
    Column("author", String, nullable=False),
)

evidence = _table(  # integers only: every verdict is recomputed from these
    "evidence",
    Column("rollout", String, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("gate", String, primary_key=True),
    Column("rho", String, primary_key=True),  # candidate's chance, printed with 6 digits
    Column("x1", BigInteger, nullable=False),  # bad outcomes, candidate
    Column("x0", BigInteger, nullable=False),  # bad outcomes, stable
    Column("n1", BigInteger, nullable=False),  # counted requests or units, candidate
    Column("n0", BigInteger, nullable=False),
)

rollout_units = _table(  # units whose bad outcome counted: each once per step or epoch
    "rollout_units",
    Column("rollout", String, primary_key=True),
    Column("gate", String, primary_key=True),
    Column("unit", String, primary_key=True),  # decimal keyed hash
    Column("turn", BigInteger, primary_key=True),  # step, or epoch with `assign: unit_epoch`
    Column("step", Integer, nullable=False),
    Column("candidate", Integer, nullable=False),  # 1 = it was the candidate's
)

mean_sums = _table(  # exact power sums of the values of mean gates: JSON lists of whole numbers
    "mean_sums",
    Column("rollout", String, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("gate", String, primary_key=True),
    Column("arm", Integer, primary_key=True),  # 1 = the candidate
    Column("live", Text, nullable=False),
    Column("looked", Text, nullable=False),  # as at the last look at a fixed time: what verdicts rest on
    Column("look", BigInteger, nullable=False),  # number of that time
)

mean_units = _table(  # what each unit added to the sums of a mean
    "mean_units",
    Column("rollout", String, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("gate", String, primary_key=True),
    Column("unit", String, primary_key=True),  # decimal keyed hash
    Column("turn", BigInteger, primary_key=True),  # epoch with `assign: unit_epoch`, else 0
    Column("arm", Integer, primary_key=True),
    Column("n", BigInteger, nullable=False),  # rows
    Column("y", BigInteger, nullable=False),  # their values in grid steps
)

verdicts = _table(  # the latest per rollout, step and gate
    "verdicts",
    Column("rollout", String, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("gate", String, primary_key=True),
    Column("outcome", String, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("numbers", Text, nullable=False),  # JSON: log_e, max_log_e, needed, ...
    Column("sentence", Text, nullable=False),
)

levels = _table(  # every move of the degree of automation; the newest row per endpoint and segment is in force
    "levels",
    _id(),
    Column("endpoint", String, nullable=False, index=True),
    Column("segment", String, nullable=False, server_default=""),  # empty = all that have no level of their own
    Column("at_us", BigInteger, nullable=False),
    Column("from_level", String, nullable=False),
    Column("to_level", String, nullable=False),
    Column("author", String, nullable=False),
    Column("cause", Text, nullable=False),
    Column("numbers", Text, nullable=False),
)

lineages = _table(  # one error budget each: version, segment, side, loss, bound, start of data
    "lineages",
    _id(),
    Column("endpoint", String, nullable=False, index=True),
    Column("version", String, nullable=False),
    Column("segment", String, nullable=False, server_default=""),  # empty = all that have no level of their own
    Column("side", String, nullable=False),  # output label, or *
    Column("bound", Float, nullable=False),
    Column("delta", Float, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("state", String, nullable=False),  # pilot | open | closed
    Column("grid", Text, nullable=False),  # JSON list of thresholds, safest first; fixed before the first label
    Column("counts", Text, nullable=False),  # JSON: n, k per threshold, running max log E
    Column("labels", BigInteger, nullable=False),
    Column("after_item", BigInteger, nullable=False),  # draw order: only items with a higher number count
    Column("last_item", BigInteger, nullable=False),  # last counted item
    Column("attempt", Integer, nullable=False),
    Column("note", Text, nullable=False),  # one sentence: certified, or what is missing as a number
)

certificates = _table(
    "certificates",
    _id(),
    Column("endpoint", String, nullable=False, index=True),
    Column("version", String, nullable=False),
    Column("segment", String, nullable=False, server_default=""),  # empty = all that have no level of their own
    Column("side", String, nullable=False),
    Column("lineage", BigInteger, nullable=False),
    Column("state", String, nullable=False),  # valid | lapsed | revoked | superseded
    Column("threshold", Float, nullable=False),
    Column("bound", Float, nullable=False),
    Column("delta", Float, nullable=False),
    Column("n", BigInteger, nullable=False),
    Column("k", BigInteger, nullable=False),
    Column("coverage", Float, nullable=False),  # share of this side's scores at or above the threshold
    Column("reference", String, nullable=False),  # one blind reader | adjudicated
    Column("issued_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("cause", Text, nullable=False),
    Column("audit_n", BigInteger, nullable=False),  # audited items seen since, for revocation
    Column("audit_k", BigInteger, nullable=False),
    Column("revoke_log_e", Float, nullable=False),  # running maximum
    Column("last_item", BigInteger, nullable=False),  # last audited item counted for revocation
    Column("claim", Text, nullable=False),  # the claim in words
    Column("decisions", BigInteger),  # most automated decisions; None = only time ends it
    Column("decided", BigInteger, nullable=False, server_default="0"),  # automated decisions of the version since
    Column("evidence", Text, nullable=False, server_default=""),  # JSON: what `tenure certificate verify` needs
    Column("audit_losses", Text, nullable=False, server_default=""),  # JSON: loss -> audits, where it is graded
)

WAITING_SQL = "state IN ('open', 'judged', 'conflict')"
"""What still needs a reader; spelled as in the partial indexes, so that SQLite uses them."""
PENDING_SQL = "pending = 1"
LIVE_SQL = "priority > -500000000"
"""What somebody waits for: the priority of other items lies far below."""


def _waiting(name: str, *columns: str | ColumnElement[Any], where: str = WAITING_SQL) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


_priority: Column[float] = Column("priority", Float, nullable=False)
review_items = _table(
    "review_items",
    Column("id", String, primary_key=True),  # id of the request
    Column("number", BigInteger, nullable=False, unique=True),  # draw order
    Column("endpoint", String, nullable=False),
    Column("segment", String, nullable=False, server_default=""),  # empty = all that have no level of their own
    Column("kind", String, nullable=False),  # uncertain | audit | shadow
    Column("state", String, nullable=False),
    # open | judged (needs another) | conflict (needs adjudication) | resolved | expired
    Column("blind", Integer, nullable=False),
    Column("required", Integer, nullable=False),  # judgements wanted before adjudication
    Column("pending", Integer, nullable=False),  # 1 = a client waits for the decision
    _priority,
    Column("audit_prob", Float, nullable=False),
    Column("unit", String, nullable=False),
    Column("policy", BigInteger, nullable=False),
    Column("level", String, nullable=False),  # level in force when the request came
    Column("version", String),  # the version that answered (shown unless blind)
    Column("rollout", String),  # the rollout that was running
    Column("arm", String, nullable=False),  # stable | candidate
    Column("share", Float, nullable=False),  # chance of that arm, known before the outcome
    Column("lottery", Integer, nullable=False),  # 1 = drawn before routing to be labelled
    Column("media_type", String, nullable=False),
    Column("record", Text),  # JSON of the input where it is a record or text
    Column("created_us", BigInteger, nullable=False),
    Column("deadline_us", BigInteger, nullable=False),  # 0 = none
    Column("resolved_us", BigInteger),
    Column("truth", Text),  # JSON value
    Column("truth_regions", Text),  # JSON list of boxes
    Column("source", String),  # single | agreed | adjudicated | outcome
    Column("resolution", BigInteger),  # order of resolution: a cursor for readers
    Column("escalated", Integer, nullable=False, server_default="0"),  # 1 = only an adjudicator may judge it
    Column("missed_us", BigInteger),  # when it was found not judged within `review.within`
    Index("ix_review_open", "endpoint", "state", "priority"),
    _waiting("ix_review_deadline", "endpoint", "pending", "deadline_us", "number"),
    _waiting("ix_review_age", "endpoint", "created_us", "number"),
    _waiting("ix_review_place", "endpoint", "escalated", "pending", _priority.desc(), "number"),
    _waiting(
        "ix_review_oldest", "endpoint", "escalated", "created_us", "number", where=f"{WAITING_SQL} AND {LIVE_SQL}"
    ),
    Index("ix_review_overdue", "deadline_us", sqlite_where=text(PENDING_SQL), postgresql_where=text(PENDING_SQL)),
    Index("ix_review_number", "endpoint", "number"),
    Index("ix_review_resolution", "resolution"),
    Index("ix_review_rollout", "rollout"),
)

item_predictions = _table(  # what each version said about a review item
    "item_predictions",
    Column("item", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("role", String, nullable=False),  # primary | shadow
    Column("value", Text, nullable=False),  # JSON
    Column("confidence", Float),
    Column("regions", Text, nullable=False),  # JSON list of boxes
    Column("automated", Integer, nullable=False),  # 1 = this answer was the decision
    Column("at_us", BigInteger, nullable=False),
    Column("contributions", Text),  # JSON of field -> how much it moved the answer, where the model says
)

leases = _table(
    "leases",
    Column("item", String, primary_key=True),
    Column("reader", String, primary_key=True),
    Column("token", String, nullable=False, unique=True),
    Column("blind", Integer, nullable=False),  # 1 = the reader is not shown the model's answer
    Column("final", Integer, nullable=False, server_default="0"),  # 1 = its holder may settle what was escalated
    Column("leased_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False, index=True),
    Index("ix_leases_reader", "reader", "expires_us"),
)

judgements = _table(  # immutable; a correction is a new row that supersedes
    "judgements",
    _id(),
    Column("item", String, nullable=False, index=True),
    Column("reader", String, nullable=False),
    Column("role", String, nullable=False),  # reader | adjudicator | gold (its item is a row of gold_draws)
    Column("value", Text, nullable=False),  # JSON; null with `skip`
    Column("regions", Text, nullable=False),
    Column("skip", String),  # reason of a skip
    Column("blind", Integer, nullable=False),
    Column("late", Integer, nullable=False),  # after the deadline: training only
    Column("seconds", Float, nullable=False),  # active seconds
    Column("at_us", BigInteger, nullable=False),
    Column("supersedes", BigInteger),
    Column("key", String, nullable=False, unique=True),  # idempotency key of the submission
)

waiting_judgements = _table(  # judgements of other tools whose item was being read when they came
    "waiting_judgements",
    Column("key", String, primary_key=True),  # of the judgement
    Column("endpoint", String, nullable=False),
    Column("body", Text, nullable=False),  # JSON of exchange.entry.Taken
    Column("at_us", BigInteger, nullable=False, index=True),
)

gold_items = _table(  # items whose truth readers are measured with
    "gold_items",
    Column("item", String, primary_key=True),
    Column("endpoint", String, nullable=False, index=True),
    Column("truth", Text, nullable=False),  # JSON; what it was when the item became gold
    Column("added_us", BigInteger, nullable=False),
    Column("added_by", String, nullable=False),
    Column("retired_us", BigInteger),
)

gold_draws = _table(  # a gold item as one reader got it: under an id of its own, which judgements and leases name
    "gold_draws",
    Column("id", String, primary_key=True),
    Column("item", String, nullable=False, index=True),
    Column("endpoint", String, nullable=False),
    Column("reader", String, nullable=False, index=True),
    Column("at_us", BigInteger, nullable=False),
)

decisions = _table(  # decisions of pending requests; index of the decision log
    "decisions",
    Column("id", String, primary_key=True),
    Column("endpoint", String, nullable=False),
    Column("value", Text, nullable=False),  # JSON
    Column("regions", Text, nullable=False),  # JSON list of boxes
    Column("by", String, nullable=False),  # person | fallback
    Column("reader", String, nullable=False),
    Column("policy", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("deadline_us", BigInteger, nullable=False),
    Column("logged", Integer, nullable=False, index=True),  # 1 = its frame is in the log
)

alarms = _table(
    "alarms",
    _id(),
    Column("endpoint", String, nullable=False, index=True),
    Column("rule", String, nullable=False),  # drift | threshold:<metric> | certificate
    Column("kind", String, nullable=False),  # data_drift | software | output | certificate
    Column("state", String, nullable=False),  # pending | firing | acknowledged | resolved
    Column("metric", String, nullable=False),
    Column("stage", String, nullable=False),
    Column("version", String, nullable=False),
    Column("shape", String, nullable=False),  # sudden | gradual | too early to tell
    Column("message", Text, nullable=False),
    Column("numbers", Text, nullable=False),  # JSON: effect first, then significance
    Column("actions", Text, nullable=False),  # JSON list of what was done
    Column("onset_us", BigInteger),
    Column("pending_us", BigInteger, nullable=False),
    Column("fired_us", BigInteger),
    Column("acknowledged_us", BigInteger),
    Column("acknowledged_by", String),
    Column("resolved_us", BigInteger),
)

metrics = _table(  # trial | active | retired, with the reason
    "metrics",
    Column("endpoint", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("status", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since_us", BigInteger, nullable=False),
)

panes = _table(  # counts on fixed edges, per metric and time pane
    "panes",
    Column("endpoint", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("stage", String, primary_key=True),  # input | output | software | <stage>
    Column("metric", String, primary_key=True),
    Column("pane_us", BigInteger, primary_key=True),  # start
    Column("n", BigInteger, nullable=False),
    Column("missing", BigInteger, nullable=False),
    Column("total", Float, nullable=False),  # sum, for the mean
    Column("low", Float),
    Column("high", Float),
    Column("counts", LargeBinary, nullable=False),  # <i4: tag of the edges, cells, counts; see monitor/profile.py
    Index("ix_panes_time", "endpoint", "pane_us"),
)

references = _table(
    "references",
    Column("endpoint", String, primary_key=True),
    Column("stage", String, primary_key=True),
    Column("metric", String, primary_key=True),
    Column("learned_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),  # JSON: edges, counts, deff, upper bounds, tolerance, armed or why not
)

detectors = _table(  # state of each running test, so that a restart goes on where it was
    "detectors",
    Column("endpoint", String, primary_key=True),
    Column("board", String, primary_key=True),
    Column("body", Text, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)

positions = _table(  # how far each consumer has read each segment; in one transaction with what it wrote
    "positions",
    Column("consumer", String, primary_key=True),
    Column("segment", String, primary_key=True),
    Column("offset", BigInteger, nullable=False),
)

snapshots = _table(
    "snapshots",
    Column("id", String, primary_key=True),
    Column("endpoint", String, nullable=False, index=True),
    Column("sha", String, nullable=False),
    Column("path", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("selection", Text, nullable=False),  # JSON: since, kinds, ...
    Column("created_us", BigInteger, nullable=False),
)

retrain_runs = _table(
    "retrain_runs",
    Column("id", String, primary_key=True),
    Column("endpoint", String, nullable=False, index=True),
    Column("cause", Text, nullable=False),
    Column("state", String, nullable=False),  # running | trained | failed | registered
    Column("snapshot", String, nullable=False),
    Column("version", String),
    Column("metrics", Text, nullable=False),  # JSON, from the command and from the comparison
    Column("log", Text, nullable=False),  # last lines of the command's output
    Column("started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
)

log_files = _table(
    "log_files",
    Column("path", String, primary_key=True),  # relative to the data folder
    Column("kind", Integer, nullable=False),
    Column("endpoint", String, nullable=False),
    Column("run", String, nullable=False),  # decimal u64
    Column("segment", String, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String, nullable=False),
    Column("sealed_us", BigInteger, nullable=False),
)

outbox = _table(  # notifications to send, at least once
    "outbox",
    _id(),
    Column("target", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String, nullable=False),  # waiting | sent | failed
    Column("tries", Integer, nullable=False),
    Column("next_us", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
)

audit = _table(  # hash chain: hash = SHA-256(previous hash + canonical JSON of the row)
    "audit",
    _id(),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous", String, nullable=False),
    Column("hash", String, nullable=False),
)
