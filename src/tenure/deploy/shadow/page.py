"""The report as one HTML file: no scripts, nothing from elsewhere, readable on paper and on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from tenure.deploy.shadow import charts
from tenure.deploy.shadow.classes import Classification, Share
from tenure.deploy.shadow.detections import Against, Detection
from tenure.deploy.shadow.judges import Judges, Test
from tenure.deploy.shadow.numbers import Regression
from tenure.deploy.shadow.report import Report
from tenure.deploy.shadow.transcripts import Confusion, Spoken, Transcription
from tenure.stats.bland_altman import Differences, Estimate
from tenure.stats.reread import Rate

STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #566173; --line: #d5dae2; --ground: #f5f7fa;
  --model: #1f5fa8; --person: #b4561b; --both: #3c7a4e; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff; margin: 0; }
main { max-width: 920px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 36px 0 8px; padding-top: 12px; border-top: 2px solid var(--line); }
h3 { font-size: 1rem; margin: 24px 0 6px; }
.soft, figcaption { color: var(--soft); font-size: .92rem; }
.summary { background: var(--ground); border-left: 5px solid var(--model); padding: 12px 18px; margin: 18px 0; }
.summary p { margin: 4px 0; }
.summary p:last-child { font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 8px 0; min-width: 50%; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 4px 0; }
th, td { padding: 6px 12px; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
td { white-space: nowrap; }
th:first-child, td:first-child, td.text, th.text { text-align: left; white-space: normal; }
td.text { overflow-wrap: anywhere; min-width: 7em; }
thead th { border-bottom: 2px solid var(--soft); }
td.same { background: #e3f0e6; font-weight: 600; }
td.apart { background: #fbe9dd; }
figure { margin: 12px 0; }
svg { width: 100%; max-width: 680px; height: auto; font: 14px system-ui, sans-serif; fill: var(--ink); }
svg .name { text-anchor: end; } svg .mid { text-anchor: middle; } svg .on { fill: #fff; }
svg .axis { stroke: var(--soft); } svg .grid { stroke: var(--line); }
svg .band { stroke: var(--model); stroke-width: 4; opacity: .45; } svg .dot { fill: var(--model); }
svg .point { fill: var(--model); opacity: .45; }
svg .bias { stroke: var(--both); stroke-width: 2; }
svg .limit { stroke: var(--person); stroke-width: 2; stroke-dasharray: 6 4; }
svg .both, .key .both { fill: var(--both); background: var(--both); }
svg .model, .key .model { fill: var(--model); background: var(--model); }
svg .person, .key .person { fill: var(--person); background: var(--person); }
.key span { display: inline-block; width: 12px; height: 12px; margin: 0 6px 0 14px; vertical-align: -1px; }
@media (max-width: 560px) { main { padding: 16px 12px 40px; } th, td { padding: 5px 7px; font-size: .9rem; }
  svg { font-size: 19px; } table { min-width: 100%; } }
@media print { main { max-width: none; padding: 0; } .wide { overflow: visible; }
  h2, h3 { break-after: avoid; } table, figure, .summary { break-inside: avoid; }
  * { print-color-adjust: exact; } @page { margin: 18mm; } }
"""

TOP = 15

ASSUMPTIONS = (
    "Only blind judgements of items count whose draw did not depend on the model's score.",
    "Items of one unit share a fate: intervals of agreement draw whole units; "
    "bounds and tests use one item of each.",
    "The truth is what a second blind reader and, after a split, an adjudicator said. "
    "An error that all of them share is not seen.",
    "An item that still waits for its second reader counts against the model in both tests.",
    "Each interval holds in 95 of 100 such reports, each bound likewise: a rate over repeated use.",
)


def page(report: Report) -> str:
    """Return the whole document."""
    cases = f"/{report.segment}" if report.segment else ", cases of no segment" if report.segment == "" else ""
    title = f"Shadow report: {report.endpoint}{cases}, {report.version}"
    made = datetime.fromtimestamp(report.made_us / 1e6, UTC).strftime("%d %B %Y, %H:%M UTC")
    since = datetime.fromtimestamp(report.since_us / 1e6, UTC).strftime(", items since %d %B %Y")
    said = "".join(f"<p>{escape(s)}</p>" for s in report.sentences)
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{report.settings.kind.capitalize()}; {report.items:,} blind items of '
        f"{report.units:,} units{since if report.since_us else ''}. Made {made}.</p>",
        f'<div class="summary">{said}</div>',
    ]
    if report.items:
        body += [*_agreement(report), *_detail(report), *_judges(report.judges), *_tests(report)]
    body += ["<h2>What this rests on</h2>", "<ul>", *(f"<li>{escape(a)}</li>" for a in ASSUMPTIONS), "</ul>"]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main></body></html>\n"
    )


def _agreement(report: Report) -> list[str]:
    rows = [("same answer", report.agreement)]
    if isinstance(report.detail, Detection):
        rows.append(("same boxes", report.detail.pictures))
    known = [(name, s.value, s.low, s.high) for name, s in rows]
    shares = [[name, _of(s), _percent(s.value), _band(s.low, s.high), s.method] for name, s in rows]
    chart = charts.intervals(known, "Share of items on which model and person said the same")
    return [
        "<h2>Agreement</h2>",
        _table(("", "items", "share", "95 % interval", "method"), shares, text=(4,)),
        _figure(chart, "Dot: the share. Band: its 95 % interval."),
    ]


def _detail(report: Report) -> list[str]:
    match report.detail:
        case Classification() as found:
            return _classes(found)
        case Detection() as found:
            return _boxes(found)
        case Transcription() as found:
            return _words(found)
        case Regression() as found:
            return _numbers(found)


def _classes(found: Classification) -> list[str]:
    per_class = [
        [c.label, _count(c.model), _count(c.person), _count(c.both), _percent(c.specific)] for c in found.classes
    ]
    directions = [
        [f"{d.model} / {d.person}", _of(d.share), _percent(d.share.value), _band(d.share.low, d.share.high)]
        for d in found.directions[:TOP]
    ]
    more = len(found.directions) - TOP
    p = found.margins_p
    chance = [["AC1", *_estimate(found.ac1)], ["kappa", *_estimate(found.kappa)]]
    return [
        "<h3>Who said what</h3>",
        _crosstab(found),
        "<h3>Per class</h3>",
        _table(("class", "model", "person", "both", "specific agreement"), per_class),
        "<h3>Both directions of disagreement</h3>" if directions else "",
        _table(("model / person", "of the model's", "share", "95 % interval"), directions) if directions else "",
        f'<p class="soft">{more} rarer directions are in the JSON file.</p>' if more > 0 else "",
        f'<p class="soft">McNemar: p = {p:.3g} that both directions are equally frequent. '
        "It does not say who is right.</p>"
        if p is not None
        else "",
        "<h3>Beyond chance</h3>",
        _table(("", "value", "95 % interval"), chance),
        '<p class="soft">Neither decides anything: kappa falls when one class is rare, '
        "although nobody errs more.</p>",
    ]


def _crosstab(found: Classification) -> str:
    names = "".join(f'<th scope="col">{escape(x)}</th>' for x in found.labels)
    rows = []
    for i, (label, counts) in enumerate(zip(found.labels, found.counts, strict=True)):
        cells = (
            f'<td class="{"same" if i == j else "apart" if n else ""}">{n:,}</td>' for j, n in enumerate(counts)
        )
        rows.append(f'<tr><th scope="row">{escape(label)}</th>{"".join(cells)}</tr>')
    return (
        '<div class="wide" tabindex="0"><table><caption>Rows: the model. Columns: the person.</caption>'
        f'<thead><tr><th scope="col">model</th>{names}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _boxes(found: Detection) -> list[str]:
    rows = [
        [
            c.label,
            _count(c.both),
            _count(c.model_only),
            _count(c.person_only),
            _percent(c.specific),
            _number(c.iou),
        ]
        for c in found.classes
    ]
    stacks = [
        (c.label, (("both", c.both), ("model", c.model_only), ("person", c.person_only))) for c in found.classes
    ]
    renamed = [[r.model, r.person, _count(r.count)] for r in found.renamed]
    truth = [["model", *_against(found.model)], ["person", *_against(found.person)]]
    return [
        f"<h3>Boxes, matched one to one from an overlap (IoU) of {found.iou:g}</h3>",
        f"<p>{found.both:,} drawn by both, {found.model_only:,} by the model only, "
        f"{found.person_only:,} by the person only, "
        f"{sum(r.count for r in found.renamed):,} at the same place with different classes.</p>",
        _figure(charts.bars(stacks, "Boxes by class and by who drew them"), _KEY),
        _table(("class", "both", "model only", "person only", "specific agreement", "mean IoU"), rows),
        "<h3>Same place, other class</h3>" if renamed else "",
        _table(("model", "person", "boxes"), renamed, text=(1,)) if renamed else "",
        f"<h3>Against the truth of {found.model.pictures:,} pictures read again</h3>"
        if found.model.pictures
        else "",
        _table(("", "found", "missed", "of the true", "false", "of the drawn"), truth)
        if found.model.pictures
        else "",
    ]


_KEY = (
    '<span class="key"><span class="both"></span>both<span class="model"></span>model only'
    '<span class="person"></span>person only</span>'
)


def _against(found: Against) -> list[str]:
    missed, false = found.missed, found.false
    return [_count(found.found), _of(missed), _percent(missed.value), _of(false), _percent(false.value)]


def _words(found: Transcription) -> list[str]:
    rows = [
        ["model, person as reference", *_spoken(found.model_by_person)],
        ["person, model as reference", *_spoken(found.person_by_model)],
    ]
    if found.model_by_truth.clips:
        rows.append(["model, truth as reference", *_spoken(found.model_by_truth)])
        rows.append(["person, truth as reference", *_spoken(found.person_by_truth)])
    heads = ("", "clips", "words", "substituted", "deleted", "inserted", "word error rate", "95 % interval")
    lists = (
        ("Most frequent confusions", found.confusions),
        ("Words only the person wrote", found.missed),
        ("Words only the model wrote", found.added),
    )
    return [
        "<h3>Word errors</h3>",
        _table(heads, rows),
        *(part for title, words in lists if words for part in (f"<h3>{title}</h3>", _confusions(words))),
    ]


def _spoken(s: Spoken) -> list[str]:
    counts = [_count(n) for n in (s.clips, s.words, s.substituted, s.deleted, s.inserted)]
    return [*counts, _percent(s.rate), _band(s.low, s.high)]


def _confusions(words: Sequence[Confusion]) -> str:
    rows = [[w.person or "\u2013", w.model or "\u2013", _count(w.count)] for w in words]
    return _table(("person", "model", "times"), rows, text=(1,))


def _numbers(found: Regression) -> list[str]:
    judges = [("model \u2212 person", found.differences), ("model \u2212 truth", found.model),
              ("person \u2212 truth", found.person)]  # fmt: skip
    rows = [row for name, d in judges if d is not None for row in _differences(name, d)]
    chart = charts.scatter(found.points, found.differences, "Difference model minus person against their mean")
    return [
        f"<h3>Differences, in the unit of the value; same means within {found.tolerance:g}</h3>",
        _figure(chart, "Each point one item. Solid: the bias. Dashed: the limits of agreement."),
        _table(("", "", "value", "95 % interval"), rows, text=(1,)),
        '<p class="soft">About 95 % of differences lie between the limits, if they are roughly normal and do '
        "not grow with the size; a slope far from 0 says that they do.</p>",
    ]


def _differences(name: str, d: Differences) -> list[list[str]]:
    slope = _number(d.slope)
    return [
        [name, "bias", *_estimate(d.bias)],
        [f"{d.n:,} items", "lower limit", *_estimate(d.lower)],
        ["", "upper limit", *_estimate(d.upper)],
        ["", "concordance", *_estimate(d.concordance)],
        ["", "slope", slope, ""],
    ]


def _judges(j: Judges) -> list[str]:
    read = [
        [name, _count(r.items), _count(r.read), _count(r.waiting), _count(r.model_wrong), _count(r.person_wrong),
         _count(r.both_wrong)]
        for name, r in (("disagreements", j.disagreements), ("agreements", j.agreements))
    ]  # fmt: skip
    rates = [["model", *_rate(j.model)], ["person", *_rate(j.person)]]
    chart = charts.intervals(
        [(name, r.estimate, r.lower, r.upper) for name, r in (("model", j.model), ("person", j.person))],
        "Error rates of model and person with their bounds",
    )
    p = "" if j.mcnemar is None else f"; McNemar p = {j.mcnemar:.3g}"
    return [
        "<h2>Who was wrong</h2>",
        _table(("", "items", "read again", "waiting", "model wrong", "person wrong", "both wrong"), read),
        f"<p>Only the model wrong: {j.model_alone:,}. Only the person wrong: {j.person_alone:,}{p}.</p>",
        "<h3>Error rates</h3>",
        _table(("", "estimate", "at least", "at most"), rates),
        _figure(chart, "Dot: the estimate. Band: at least and at most, each with 95 % confidence."),
    ]


def _tests(report: Report) -> list[str]:
    j, s = report.judges, report.settings
    rows = [
        _test("any time", j.always, s.look == "always"),
        _test(f"once, at {s.planned:,} items", j.once, s.look == "once"),
    ]
    return [
        "<h2>Is the model as good as the person?</h2>",
        f"<p>The claim: the model's error rate is less than {_percent(s.margin)} above the person's "
        "(points of the rate, not a part of it). "
        "A false claim is shown in at most 5 of 100 such comparisons.</p>",
        _table(("look", "verdict", "because", "judged items still needed"), rows, text=(1, 2)),
    ]


def _test(name: str, test: Test, decides: bool) -> list[str]:
    word = {"pass": "shown", "wait": "not shown", "no_data": "not computed"}[test.outcome]
    needed = "no number helps" if test.outcome == "wait" else ""
    if test.labels_needed is not None:
        needed = f"{test.labels_needed:,}"
    return [f"{name}{' (decides)' if decides else ''}", word, test.reason, needed]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, text: Sequence[int] = ()) -> str:
    def kind(i: int) -> str:
        return ' class="text"' if i in text else ""

    head = "".join(f'<th scope="col"{kind(i)}>{escape(h)}</th>' for i, h in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td{kind(i)}>{escape(cell)}</td>" for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _figure(svg: str, caption: str) -> str:
    words = caption if caption.startswith("<") else escape(caption)
    return f"<figure>{svg}<figcaption>{words}</figcaption></figure>" if svg else ""


def _rate(rate: Rate) -> list[str]:
    return [_percent(rate.estimate), _percent(rate.lower), _percent(rate.upper)]


def _estimate(found: Estimate | None) -> list[str]:
    if found is None:
        return ["not defined", ""]
    band = "none" if found.low is None else f"{_number(found.low)} to {_number(found.high)}"
    return [_number(found.value), band]


def _band(low: float | None, high: float | None) -> str:
    return "none" if low is None or high is None else f"{_percent(low)} to {_percent(high)}"


def _of(share: Share) -> str:
    return f"{share.count:,} of {share.of:,}"


def _count(n: int) -> str:
    return f"{n:,}"


def _percent(value: float | None) -> str:
    return "not defined" if value is None else f"{value * 100:.1f} %"


def _number(value: float | None) -> str:
    if value is None:
        return "not defined"
    text = f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return text.replace("-", "\u2212")
