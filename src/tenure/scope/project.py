"""The project file as values: what was promised, section by section in the order of the lifecycle.

Durations are seconds, sizes bytes, shares and rates numbers in [0, 1]. Reading the YAML text, with lines and
all faults at once, is `scope/reader.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

Case = Literal["new", "assist", "replace"]
InputKind = Literal["image", "audio", "text", "record"]


class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What y is: `labels` for classes, `regions: box` where an answer carries boxes."""

    labels: tuple[str, ...] = ()
    regions: Literal["box"] | None = None
    kind: Literal["label", "number", "text"] = "label"


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A metric's promise: `max` or `min`, with the confidence of the claim."""

    max: float | None = None
    min: float | None = None
    confidence: float = 0.95


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What there is to spend."""

    people: int | None = None
    reviews_per_hour: float | None = None
    timeline: float | None = None


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
    min: float | None = None
    max: float | None = None


class StageSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of a pipeline; `uses` is `module:Name` beside the project file."""

    stage: str
    uses: str
    placement: Literal["inline", "thread"] = "thread"
    budget: float | None = None


class Fallback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is decided when nobody has decided `after` so many seconds."""

    decide: str | int | float | bool
    after: float = 30.0


class Lost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long automation goes on when the controller is gone, before people decide everything."""

    hold: float = 600.0


class Serve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests are answered."""

    latency: float = 0.2
    qps: float = 50.0
    max_body: int = 8 * 2**20
    max_queue: float = 1.0  # seconds of queued work before 503
    on_timeout: Fallback | None = None
    on_controller_lost: Lost = Lost()


class Payloads(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which inputs are kept. Those of pending and audited requests always are."""

    keep: tuple[Literal["all", "pending", "audited", "sampled"], ...] = ("pending", "audited", "sampled")
    sample: float = 0.1
    quota: int = 20 * 2**30
    retention: float = 30 * 86400.0


class LogSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the prediction log is kept."""

    durability: Literal["process", "power"] = "process"
    payloads: Payloads = Payloads()
    on_full: Literal["refuse", "answer_unlogged"] = "refuse"


class Side(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bound on errors among automated answers of one label."""

    errors: float


class Audit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Share of automated decisions that a person checks."""

    steady: float = 0.1
    rollout: float = 0.5


class CertificateSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Life of a certificate; `up: approve` waits for an operator, `automatic` does not."""

    expires: float = 7 * 86400.0
    confidence: float = 0.95
    up: Literal["approve", "automatic"] = "approve"
    down: Literal["automatic"] = "automatic"
    pilot: int = 1000  # unlabelled scores before the grid is fixed
    plan: int = 2000  # labels planned


class Automation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The degree of automation: where it starts, how far it may go, and what errors are allowed.

    `sides` maps an output label to its bound; `errors` bounds all automated answers together. One of both.
    """

    start: Literal["human_only", "shadow", "assist"] = "human_only"
    max: Literal["human_only", "shadow", "assist", "partial", "full"] = "partial"
    errors: float | None = None
    sides: dict[str, Side] = {}
    audit: Audit = Audit()
    blind: float = 0.2  # share of reviewed items shown without the model's answer, from assist upward
    certificate: CertificateSpec = CertificateSpec()


class SecondReader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who gets a second blind reading: shares of disagreements and of agreements with the model."""

    disagreements: float = 1.0
    agreements: float = 0.05


class Review(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How people's judgements are collected."""

    readers: int = 1
    second_reader: SecondReader = SecondReader()
    lease: float = 120.0


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of a rollout: `shadow` or `share`, and what it waits for."""

    shadow: float | None = None
    share: float | None = None
    min: int = 0  # total requests times share
    min_labels: int = 0
    bake: float = 0.0
    approve: bool = False


class GateSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One comparison of candidate and stable; `bad` names the outcome that is counted."""

    bad: Literal["wrong_decision", "over_latency", "empty_output", "failed"]
    alpha: float = 0.05
    maturity: float = 0.0


class RolloutSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The default plan; `candidate: earned` automates only what the candidate's own certificate covers."""

    steps: tuple[Step, ...] = ()
    gates: tuple[GateSpec, ...] = ()
    assign: Literal["request", "unit", "unit_epoch"] = "request"
    epoch: float = 600.0
    candidate: Literal["earned", "granted"] = "earned"
    advance: Literal["not_contradicted", "shown"] = "not_contradicted"
    keep_warm: float = 86400.0


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plain threshold on a metric's pane mean."""

    metric: str
    above: float | None = None
    below: float | None = None
    lasting: float = msgspec.field(name="for", default=0.0)
    do: tuple[str, ...] = ("notify",)


class AlarmSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a drift alarm does."""

    drift: Literal["any", "data", "concept"] = "any"
    do: tuple[Literal["notify", "hold_rollout", "rollback", "drop_level", "open_retraining"], ...] = ("notify",)


class Monitor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is watched. `false_alarms`: seconds between false alarms that the project accepts."""

    pane: float = 60.0
    reference: int = 30  # panes of the reference
    false_alarms: float = 30 * 86400.0
    tolerance: float = 0.02
    notice: float = 3600.0  # seconds within which a shift of 10 % of the rows must be noticed
    thresholds: tuple[Threshold, ...] = ()
    alarms: tuple[AlarmSpec, ...] = ()
    webhook: str | None = None


class Retrain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The user's training command; two separate switches for training and deploying by itself."""

    command: str | None = None
    min_labels: int = 500
    auto_train: bool = False
    auto_deploy: bool = False
    timeout: float = 3600.0


class EndpointSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stable name that clients call."""

    input: InputKind
    fields: dict[str, Field] = {}
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

    host: str = "127.0.0.1"
    port: int = 8700
    console_port: int = 8701
    workers: int = 2
    state: str | None = None  # SQLAlchemy URL; default SQLite in the data folder
    data: str = "tenure-data"


class Privacy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sensitivity of what is logged."""

    level: Literal["public", "internal"] = "internal"


class Project(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One project file."""

    tenure: int = 1
    project: str
    scope: Scope = Scope()
    data: Data = Data()
    endpoints: dict[str, EndpointSpec] = {}
    server: Server = Server()
    privacy: Privacy = Privacy()
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
