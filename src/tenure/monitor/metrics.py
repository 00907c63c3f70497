"""The names of all metrics: where they are measured, in which unit, in which words, and on which board.

`docs/reference/metrics.md` is made from this file by `python -m tenure.monitor.metrics`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from tenure.scope.project import EndpointSpec, Output

Board = Literal["input", "output"]

INPUT, OUTPUT, SOFTWARE = "input", "output", "software"
"""Stages that every endpoint has; the others are the pipeline's own stages."""

ALL_VERSIONS = "*"
"""The `version` of panes that are not about one version."""

OTHER = "other"
"""The class of an answer that is not among the output's labels."""


class Metric(msgspec.Struct, frozen=True):
    """One metric.

    Attributes:
        name: as in `monitor.thresholds` and the panes.
        stage: `input`, `output`, `software` or a pipeline stage.
        unit: how its number is read; `share` is in [0, 1].
        title: what a person reads in a sentence, such as "the brightness".
        source: where the number comes from.
        board: the drift board that watches it; None = charts and plain thresholds only.
    """

    name: str
    stage: str
    unit: str
    title: str
    source: str
    board: Board | None = None


def _input(name: str, unit: str, title: str, source: str) -> Metric:
    return Metric(name, INPUT, unit, title, source, INPUT)  # type: ignore[arg-type]


KNOWN: tuple[Metric, ...] = (
    _input("brightness", "grey levels", "brightness", "mean luma of the photo, 0 to 255"),
    _input("contrast", "grey levels", "contrast", "standard deviation of the luma"),
    _input("sharpness", "grey levels squared", "sharpness", "variance of the Laplacian of the luma"),
    _input("width", "pixels", "width", "width of the photo"),
    _input("height", "pixels", "height", "height of the photo"),
    _input("pixels", "pixels", "size", "width times height of the photo"),
    _input("seconds", "s", "length", "length of the clip"),
    _input("loudness", "dBFS", "loudness", "root mean square of the clip"),
    _input("silence", "share", "share of silence", "share of the clip's frames below the silence level"),
    _input("clipping", "share", "share of clipped samples", "samples at the end of the scale"),
    _input("length", "characters", "length", "characters of the text"),
    _input("words", "words", "number of words", "words of the text"),
    _input("bytes", "bytes", "size", "size of the input as sent"),
    _input("missing", "share", "share of missing values", "missing fields of the record"),
    Metric("confidence", OUTPUT, "share", "confidence", "the model's confidence", "output"),
    Metric("empty", OUTPUT, "share", "share of empty answers", "answers that are None or empty text", "output"),
    Metric("n_regions", OUTPUT, "regions", "number of regions", "regions of an answer", "output"),
    Metric("number", OUTPUT, "the output's unit", "answer", "the answer, where it is a number", "output"),
    Metric("automated", OUTPUT, "share", "share decided by the model", "requests that the model decided"),
    Metric("fallback", OUTPUT, "share", "share decided by the fallback", "requests that the fallback decided"),
    Metric("latency_ms", SOFTWARE, "ms", "latency", "arrival of the request to its frame in the log"),
    Metric("queue_ms", SOFTWARE, "ms", "time in the queue", "waiting for the model"),
    Metric("error_share", SOFTWARE, "share", "share of errors", "requests refused, failed or expired"),
    Metric(
        "over_budget", SOFTWARE, "share", "share over the latency budget", "requests later than `serve.latency`"
    ),
    Metric("throughput", SOFTWARE, "1/s", "throughput", "requests per second of a pane"),
    Metric("degraded", SOFTWARE, "share", "share without a controller", "requests while no controller was alive"),
    Metric("memory_mb", SOFTWARE, "MB", "memory", "resident memory of tenure's processes"),
    Metric(
        "cpu_share", SOFTWARE, "share", "processor use", "processor time of tenure's processes over all cores"
    ),
    Metric(
        "server_load", SOFTWARE, "share", "server load", "load average of one minute over the number of cores"
    ),
)

_KNOWN = {m.name: m for m in KNOWN}

STAGE_TIME = Metric("time_ms", "<stage>", "ms", "time", "time of one pipeline stage (`stage_us:<stage>`)")
CLASS_SHARE = Metric("class:<label>", OUTPUT, "share", "share of answers", "answers with this label", "output")
OTHER_INPUT = _input(
    "<field>", "the field's unit", "value", "any other input metric (`x:<field>`) that is logged"
)

CLASS_PREFIX = "class:"


def find(name: str, stage: str | None = None) -> Metric:
    """Return what is known of a metric; a name that nobody declared is an input metric of that name."""
    if stage is None and name.endswith(".time_ms"):
        stage = name.removesuffix(".time_ms")
    if stage is not None and stage not in (INPUT, OUTPUT, SOFTWARE):
        return msgspec.structs.replace(STAGE_TIME, stage=stage, title=f"time of stage {stage}")
    if name.startswith(CLASS_PREFIX):
        title = f"share of answers “{name.removeprefix(CLASS_PREFIX)}”"
        return msgspec.structs.replace(CLASS_SHARE, name=name, title=title)
    known = _KNOWN.get(name)
    if known is not None and stage in (None, known.stage):
        return known
    if stage in (OUTPUT, SOFTWARE):
        return Metric(name, stage, "", name.replace("_", " "), "reported by the caller")
    return msgspec.structs.replace(OTHER_INPUT, name=name, title=name.replace("_", " "), unit="")


def order(name: str) -> int:
    """Return the rank in which metrics that moved equally are named: the plainest explanation first."""
    names = list(_KNOWN)
    return names.index(name) if name in _KNOWN else len(names)


def stages(spec: EndpointSpec) -> tuple[str, ...]:
    """Return the stages of an endpoint in the order of a request."""
    return (INPUT, *(s.stage for s in spec.pipeline), OUTPUT, SOFTWARE)


def class_metrics(output: Output | None) -> tuple[str, ...]:
    """Return the class-share metrics of an output with labels; the last one counts all other answers."""
    if output is None or not output.labels:
        return ()
    return (*(CLASS_PREFIX + label for label in output.labels), CLASS_PREFIX + OTHER)


def reference() -> str:
    """Return the reference page of all metrics as Markdown."""
    lines = [
        "# Metrics",
        "",
        "Made from `src/tenure/monitor/metrics.py` by `python -m tenure.monitor.metrics`; do not edit.",
        "",
        "A threshold in the project file names a metric as in the first column.",
        "The board says which drift detector watches it; a dash means charts and plain thresholds only.",
        "A metric without a value in a request counts as missing there, and the share of missing is watched too.",
        "",
    ]
    for title, stage in (
        ("Input", INPUT),
        ("Pipeline stages", "<stage>"),
        ("Output", OUTPUT),
        ("Software", SOFTWARE),
    ):
        rows = [m for m in (*KNOWN, STAGE_TIME, CLASS_SHARE, OTHER_INPUT) if m.stage == stage]
        lines += [f"## {title}", "", "| metric | unit | what it is | board |", "|---|---|---|---|"]
        lines += [f"| `{m.name}` | {m.unit} | {m.source} | {m.board or '–'} |" for m in rows]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201
