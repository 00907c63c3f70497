"""The project file as values: what was promised, section by section in the order of the lifecycle.

Durations are seconds, sizes bytes, shares numbers in [0, 1], rates the seconds between two events. How each is
spelled is `scope/units.py`; reading the YAML text, with lines and all faults at once, is `scope/reader.py`; what
the keys mean is `scope/keys.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from tenure.scope.units import Unit

Case = Literal["new", "assist", "replace"]
InputKind = Literal["image", "audio", "text", "record"]
Strategy = Literal["canary", "blue_green", "shadow"]
Action = Literal["notify", "hold_rollout", "rollback", "drop_level", "open_retraining"]

Duration = Annotated[float, Unit.DURATION]
Span = Annotated[float, Unit.DURATION, msgspec.Meta(gt=0)]
Size = Annotated[int, Unit.SIZE, msgspec.Meta(gt=0)]
Share = Annotated[float, Unit.SHARE]
Part = Annotated[float, Unit.SHARE, msgspec.Meta(gt=0)]
Confidence = Annotated[float, Unit.SHARE, msgspec.Meta(gt=0, lt=1)]
Between = Annotated[float, Unit.RATE, msgspec.Meta(gt=0)]
Amount = Annotated[float, Unit.AMOUNT]
Positive = Annotated[float, Unit.NUMBER, msgspec.Meta(gt=0)]
Count = Annotated[int, Unit.COUNT]
Some = Annotated[int, Unit.COUNT, msgspec.Meta(ge=1)]
Port = Annotated[int, Unit.COUNT, msgspec.Meta(le=65535)]


class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What y is: `labels` for classes, `regions: box` where an answer carries boxes."""

    labels: tuple[str, ...] = ()
    regions: Literal["box"] | None = None
    kind: Literal["label", "number", "text"] = "label"
    unit: str = ""


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A metric's promise: `max` or `min`, with the confidence of the claim."""

    max: Amount | None = None
    min: Amount | None = None
    confidence: Confidence = 0.95


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What there is to spend."""

    people: Some | None = None
    reviews_per_hour: Positive | None = None
    timeline: Span | None = None


class Scope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be predicted from what, why, and what counts as good enough."""

    case: Case = "assist"
    x: str = ""
    y: Output = Output()
    metrics: dict[str, Target] = {}
    budget: Budget = Budget()


class Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`unit`: what shares a fate (line, patient, user). `drift_prior`: how fast this domain usually changes."""

    unit: str | None = None
    drift_prior: Literal["slow", "fast"] = "slow"


class Field(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field of a record input."""

    type: Literal["int", "float", "bool", "text", "category"]
    required: bool = True
    nullable: bool = False
    values: tuple[str, ...] = ()
    min: Amount | None = None
    max: Amount | None = None
    masked: bool = False


class RuleCase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case of a rule: what is answered when the condition holds (`condition.py` says what one is)."""

    when: str
    answer: str | int | float | bool
    confidence: Share | None = None


class StageSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of a pipeline: `uses` code beside the project file or a remote model; or it is a rule.

    A rule has an answer `otherwise`; one without cases is a constant.
    """

    stage: str
    uses: str | None = None
    rule: tuple[RuleCase, ...] = ()
    otherwise: str | int | float | bool | None = None
    placement: Literal["inline", "thread", "process"] = "thread"
    processes: Some = 1
    budget: Span | None = None


class Fallback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is decided when nobody has decided `after` so many seconds."""

    decide: str | int | float | bool
    after: Span = 30.0


class Lost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long automation goes on when the controller is gone, before people decide everything."""

    hold: Duration = 600.0


class Serve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests are answered."""

    latency: Span = 0.2
    qps: Positive = 50.0
    max_body: Size = 8 * 2**20
    max_queue: Span = 1.0  # seconds of queued work before 503
    on_overrun: Literal["wait", "person", "fallback", "refuse"] = "wait"
    on_timeout: Fallback | None = None
    on_controller_lost: Lost = Lost()


class Payloads(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which inputs are kept. Those of pending and audited requests always are."""

    keep: tuple[Literal["all", "pending", "audited", "sampled"], ...] = ("pending", "audited", "sampled")
    sample: Share = 0.1
    quota: Size = 20 * 2**30
    retention: Span = 30 * 86400.0


class LogSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the prediction log is kept."""

    durability: Literal["process", "power"] = "process"
    payloads: Payloads = Payloads()
    on_full: Literal["refuse", "answer_unlogged"] = "refuse"


class Side(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bound on errors among automated answers of one label."""

    errors: Part


class Audit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Share of automated decisions that a person checks."""

    steady: Share = 0.1
    rollout: Share = 0.5


class LossSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What counts as wrong; at most one key. Without any: another value than the truth."""

    tolerance: Amount | None = None
    iou: Part | None = None
    word_error: Share | None = None
    costs: dict[str, dict[str, Positive]] = {}  # truth -> answer -> cost; the dearest is loss 1


class CertificateSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Life of a certificate; `up: approve` waits for an operator, `automatic` does not."""

    expires: Span = 7 * 86400.0
    confidence: Confidence = 0.95
    up: Literal["approve", "automatic"] = "approve"
    down: Literal["automatic"] = "automatic"
    pilot: Some = 1000  # unlabelled scores before the grid is fixed
    plan: Some = 2000  # labels planned
    decisions: Some | None = None  # ends it too, whichever comes first
    labels: Literal["fair", "weighted"] = "fair"  # which labels count
    agreements: Part | None = None  # part of the bound for errors that the first reader shares


class SegmentSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one segment promises otherwise than its endpoint; what is left out holds as there."""

    max: Literal["human_only", "shadow", "assist", "partial", "full"] | None = None
    errors: Part | None = None
    sides: dict[str, Side] = {}


class Segments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parts of the cases with a degree of automation of their own: `by` is a field, or `unit` of the request.

    `values` names them; every other value goes with the endpoint itself.
    """

    by: str
    values: dict[str, SegmentSpec]


class Automation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The degree of automation: where it starts, how far it may go, and what errors are allowed.

    `sides` maps an output label to its bound; `errors` bounds all automated answers together. One of both.
    """

    start: Literal["human_only", "shadow", "assist", "full"] = "human_only"
    max: Literal["human_only", "shadow", "assist", "partial", "full"] = "partial"
    errors: Part | None = None
    sides: dict[str, Side] = {}
    loss: LossSpec = LossSpec()
    audit: Audit = Audit()
    blind: Share = 0.2  # share of reviewed items shown without the model's answer, from assist upward
    certificate: CertificateSpec = CertificateSpec()
    segments: Segments | None = None

    def names(self) -> tuple[str, ...]:
        """Return the segments: the endpoint itself, named by the empty text, then those of `segments`."""
        return ("", *self.segments.values) if self.segments else ("",)

    def of(self, segment: str) -> Automation:
        """Return what is promised for one segment; the endpoint's own promise for the empty text."""
        told = self.segments.values[segment] if self.segments and segment else SegmentSpec()
        bounded = {"errors": told.errors, "sides": told.sides} if told.errors is not None or told.sides else {}
        return msgspec.structs.replace(self, max=told.max or self.max, segments=None, **bounded)

    def population(self, segment: str) -> str:
        """Return in words which cases a segment has; empty without segments, where it has all."""
        if self.segments is None:
            return ""
        by, values = self.segments.by, self.segments.values
        if segment:
            return f"{by} {segment!r}"
        return f"{by} none of {', '.join(repr(value) for value in sorted(values))}"


class SecondReader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who gets a second blind reading: shares of disagreements and of agreements with the model."""

    disagreements: Share = 1.0
    agreements: Share = 0.05


class Gold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Items of known truth among the others, to measure the readers."""

    share: Share = 0.0


class Cap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Most judgements of one person in any hour and any 24 hours; None is no limit."""

    per_hour: Some | None = None
    per_day: Some | None = None


class Review(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How people's judgements are collected.

    `within` is for items without a deadline; `on_late` says what happens to one that nobody judged by then.
    `on_fallback` says what happens to one whose client got the fallback's decision. `last` is behind all others.
    """

    readers: Some = 1
    second_reader: SecondReader = SecondReader()
    lease: Span = 120.0
    gold: Gold = Gold()
    cap: Cap = Cap()
    within: Span | None = None
    on_late: Literal["escalate", "last", "close"] = "escalate"
    on_fallback: Literal["last", "close"] = "last"
    adjudication: Literal["anyone", "adjudicator"] = "anyone"
    escalate_after: Some | None = None  # skips
    costs: dict[str, Positive] = {}  # label of the model's answer -> cost of being wrong; orders the queue


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of a rollout: `shadow` or `share`, and what it waits for."""

    shadow: Part | None = None
    share: Part | None = None
    min: Count = 0  # total requests times share
    min_labels: Count = 0
    bake: Duration = 0.0
    approve: bool = False


class GateSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One comparison of candidate and stable: `bad` names an outcome that is counted, or `mean` a value.

    `bad`: `wrong_decision`, `over_latency`, `empty_output`, `failed`, or `reaction:NAME` for what clients
    send as feedback. A step passes only if it would with every missing label counted against the candidate;
    `missing: at_random` trusts that labels go missing by chance. With `constant` the candidate is compared with
    that rate; randomisation does not protect it. `margin` is the relative increase that `advance: shown`
    tolerates: 1, which is taken without it, claims less than twice the old rate.

    `mean`: `number`, `confidence`, `latency_ms`, or `reaction:NAME` with a number as its value. `harm` says which
    way is worse, `margin` how much worse `advance: shown` tolerates, in the value's own unit. Values count from
    `floor` to `cap` at most. `effect` is the difference that the gate is made to find; without it the margin.
    """

    bad: str = ""
    mean: str = ""
    alpha: Confidence = 0.05
    maturity: Duration = 0.0
    margin: Positive | None = None
    constant: Confidence | None = None
    missing: Literal["at_random", "worst_case"] = "worst_case"
    harm: Literal["up", "down"] | None = None
    floor: Amount = 0.0
    cap: Amount | None = None
    effect: Positive | None = None

    @property
    def name(self) -> str:
        """What verdicts and evidence call it."""
        return self.bad or f"mean:{self.mean}"

    @property
    def ratio(self) -> float:
        """Rate ratio that `advance: shown` rules out."""
        return 1.0 + (1.0 if self.margin is None else self.margin)


class SliceSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parts of the traffic that every gate also judges apart; `by` is a field, or `unit` of the request.

    `values` names them, or `each` takes every value that comes, up to so many. `advance` says what a step wants
    of each: that it is not contradicted, that there is `enough` of it to be so, or that it is `shown`.
    """

    by: str
    values: tuple[str, ...] = ()
    each: Some | None = None
    advance: Literal["not_contradicted", "enough", "shown"] = "not_contradicted"


class RolloutSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The default plan; `candidate: earned` automates only what the candidate's own certificate covers.

    `strategy` names a ladder where `steps` names none. Zero seconds switch `deadline` and `operator_silence` off.
    """

    strategy: Strategy | None = None
    steps: tuple[Step, ...] = ()
    gates: tuple[GateSpec, ...] = ()
    slices: tuple[SliceSpec, ...] = ()
    assign: Literal["request", "unit", "unit_epoch"] = "request"
    epoch: Span = 600.0
    candidate: Literal["earned", "granted"] = "earned"
    advance: Literal["not_contradicted", "shown"] = "not_contradicted"
    keep_warm: Duration = 86400.0
    deadline: Duration = 0.0
    operator_silence: Duration = 0.0
    second_person: bool = False


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plain threshold on a metric's pane mean."""

    metric: str
    above: Amount | None = None
    below: Amount | None = None
    lasting: Duration = msgspec.field(name="for", default=0.0)
    do: tuple[Action, ...] = ("notify",)


class AlarmSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a drift alarm does: `data` is drift of the inputs, `any` of inputs and outputs."""

    drift: Literal["any", "data"] = "any"
    do: tuple[Action, ...] = ("notify",)


class Monitor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is watched. `false_alarms`: seconds between false alarms that the project accepts."""

    pane: Span = 60.0
    reference: Some = 30  # panes of the reference
    false_alarms: Between = 30 * 86400.0
    tolerance: Share = 0.02
    notice: Span = 3600.0  # seconds within which a shift of 10 % of the rows must be noticed
    thresholds: tuple[Threshold, ...] = ()
    alarms: tuple[AlarmSpec, ...] = ()
    webhook: str | None = None


class Retrain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The user's training command; two separate switches for training and deploying by itself."""

    command: str | None = None
    min_labels: Some = 500
    auto_train: bool = False
    auto_deploy: bool = False
    reveal: bool = False  # the command gets masked fields, too
    timeout: Span = 3600.0


class Decode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a picture becomes pixels, the same for every version, at every time and place."""

    min_side: Some | None = None  # None = JPEG files are decoded at their full size


class EndpointSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stable name that clients call."""

    input: InputKind
    fields: dict[str, Field] = {}
    decode: Decode = Decode()
    output: Output | None = None  # default: scope.y
    pipeline: tuple[StageSpec, ...] = ()
    serve: Serve = Serve()
    log: LogSpec = LogSpec()
    automation: Automation = Automation()
    review: Review = Review()
    rollout: RolloutSpec = RolloutSpec()
    monitor: Monitor = Monitor()
    retrain: Retrain = Retrain()


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The processes and addresses of `tenure serve`."""

    name: str = "tenure"  # what the Open Inference Protocol's metadata call this server
    host: str = "127.0.0.1"
    port: Port = 8700
    console_port: Port = 8701
    grpc_port: Port | None = None  # the Open Inference Protocol over gRPC
    workers: Some = 2
    drain: Duration = 5.0  # a stopping worker finishes what it has in hand
    notice: Duration = 0.0  # ready is false so long before the server takes no more connections
    state: str | None = None  # SQLAlchemy URL; default SQLite in the data folder
    data: str = "tenure-data"


class Exchange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What labelling tools may make this server do."""

    hosts: tuple[str, ...] = ()  # inputs are fetched from these alone: names, name:port, addresses, networks


class Privacy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sensitivity of what is logged."""

    level: Literal["public", "internal"] = "internal"


class Trust(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may run code when it is loaded, by SHA-256 in hex: the operator's word, never the file's own."""

    sha256: tuple[str, ...] = ()
    skops: dict[str, tuple[str, ...]] = {}  # SHA-256 of the file -> types that it may construct


class Project(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One project file."""

    tenure: int = 1
    project: str
    scope: Scope = Scope()
    data: Data = Data()
    endpoints: dict[str, EndpointSpec] = {}
    server: Server = Server()
    privacy: Privacy = Privacy()
    exchange: Exchange = Exchange()
    trust: Trust = Trust()
    root: str = "."  # folder of the project file; set by the reader, not a key of the file

    def folder(self) -> Path:
        """Return the data folder."""
        return Path(self.root, self.server.data).resolve()

    def output(self, endpoint: str) -> Output:
        """Return what an endpoint answers: its own `output`, else the scope's y."""
        return self.endpoints[endpoint].output or self.scope.y

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return dict(msgspec.to_builtins(self))
