"""The whole report: agreement, the kind's own numbers, who was wrong, and what is still needed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy.engine import Connection

from tenure.deploy.shadow import cases as reading
from tenure.deploy.shadow.cases import Case, Said, Same
from tenure.deploy.shadow.classes import Classification, Share, agreed, classify
from tenure.deploy.shadow.detections import Detection, detect, same_boxes
from tenure.deploy.shadow.judges import Judges, judge
from tenure.deploy.shadow.numbers import Regression, measure, within
from tenure.deploy.shadow.settings import Settings
from tenure.deploy.shadow.transcripts import Transcription, same_words, transcribe

FORMAT = "tenure-shadow-report/1"
Detail = Classification | Detection | Transcription | Regression


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A version beside a person; `docs/explanation/shadow-report.md` says what each number means.

    Attributes:
        format: name and version of this format.
        endpoint: name.
        version: the version compared.
        since_us: only items from then on, microseconds since 1970; 0 for all.
        made_us: when it was made.
        settings: what was fixed beforehand.
        items: blind items compared.
        units: distinct units among them; items without a unit count each.
        agreement: share of items on which both said the same.
        detail: the kind's own numbers.
        judges: both against the truth.
        sentences: the same in words, the most important first.
    """

    format: str = FORMAT
    endpoint: str
    version: str
    since_us: int
    made_us: int
    settings: Settings
    items: int
    units: int
    agreement: Share
    detail: Detail
    judges: Judges
    sentences: tuple[str, ...]
    segment: str | None = None  # the one whose cases these are; None = all of the endpoint


def shadow_report(
    conn: Connection, endpoint: str, version: str, *, settings: Settings, now_us: int, since_us: int = 0,
    segment: str | None = None,
) -> Report:  # fmt: skip
    """Compare a version with the people who judged the same items blind.

    Args:
        conn: a connection.
        endpoint: name.
        version: whose answers are compared.
        settings: kind, margin, planned number, overlap and tolerance.
        now_us: when, microseconds since 1970.
        since_us: only items from then on.
        segment: only items of that segment; None = all.

    Raises:
        CaseError: a setting is out of its range.
    """
    settings.check()
    found = reading.read(conn, endpoint, version, since_us, segment)
    made = compare(found, endpoint, version, settings=settings, now_us=now_us, since_us=since_us)
    return msgspec.structs.replace(made, segment=segment)


def compare(
    cases: Sequence[Case], endpoint: str, version: str, *, settings: Settings, now_us: int, since_us: int = 0
) -> Report:
    """Make the report from cases in draw order."""
    same = same_by(settings)
    report = Report(
        endpoint=endpoint,
        version=version,
        since_us=since_us,
        made_us=now_us,
        settings=settings,
        items=len(cases),
        units=len(reading.independent(cases)),
        agreement=agreed(cases, same),
        detail=_detail(cases, settings),
        judges=judge(cases, same, settings),
        sentences=(),
    )
    return msgspec.structs.replace(report, sentences=tuple(_sentences(report)))


def same_by(settings: Settings) -> Same:
    """Return what makes two answers the same."""
    match settings.kind:
        case "detection":
            return lambda a, b: same_boxes(a, b, settings.iou)
        case "transcription":
            return same_words
        case "regression":
            return lambda a, b: within(a, b, settings.tolerance)
        case _:
            return _same_value


def _same_value(a: Said, b: Said) -> bool:
    return str(a.value) == str(b.value)


def _detail(cases: Sequence[Case], settings: Settings) -> Detail:
    match settings.kind:
        case "detection":
            return detect(cases, settings.iou)
        case "transcription":
            return transcribe(cases)
        case "regression":
            return measure(cases, settings.tolerance)
        case _:
            return classify(cases, settings.labels)


def _sentences(report: Report) -> list[str]:
    if not report.items:
        return [f"{report.version} has not been judged blind beside a person yet."]
    share, j = report.agreement, report.judges
    band = f"95 % interval {share.low:.1%} to {share.high:.1%}" if share.low is not None else "no interval"
    said = [
        f"{report.version} and people agree on {share.count} of {share.of} blind items "
        f"({share.value:.1%}; {band})."
    ]
    if not j.model.read:
        said.append("Nobody has read any of them again, so it is not known who was wrong.")
    elif j.model.upper is None or j.person.upper is None:
        said.append("Not both kinds, agreements and disagreements, were read again: error rates are not known.")
    else:
        said.append(
            f"Error rates: model {j.model.estimate:.1%} (at most {j.model.upper:.1%}), "
            f"person {j.person.estimate:.1%} (at most {j.person.upper:.1%})."
        )
    return [*said, _verdict(report)]


def _verdict(report: Report) -> str:
    margin = f"{report.settings.margin:.1%}".replace(".0%", "%")
    claim = f"the model's error is less than {margin} above the person's"
    test = report.judges.always if report.settings.look == "always" else report.judges.once
    if test.outcome == "pass":
        return f"Shown: {claim} ({test.reason})."
    if test.labels_needed is not None:
        return f"Not shown yet that {claim}: about {test.labels_needed:,} more judged items at the present rates."
    reason = test.reason if test.outcome == "no_data" else "no number of judgements shows it at the present rates"
    return f"Not shown that {claim}: {reason}."
