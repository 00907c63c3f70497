"""What the story came to: counts and claims, as values for JSON and in words."""

from __future__ import annotations

from typing import Any

from tenure.data.records import decode_id
from tenure.data.view import Log
from tenure.demo.inspection.narrator import Narrator
from tenure.demo.inspection.stage import Stage, outcomes
from tenure.system import secret

FORMAT = 1
TOO_MANY = 0.01
"""Share of photos without an answer from which on the machine is called too slow."""
_WHO = {"person": "people", "model": "the model", "fallback": "the fallback"}


def summary(stage: Stage) -> dict[str, Any]:
    """Return the facts; the log is read after the server has ended."""
    requests, facts = stage.line.requests, stage.facts
    return {
        "format": FORMAT,
        "seed": stage.seed,
        "speed": stage.speed,
        "seconds": round(stage.tell.seconds(), 1),
        "versions": stage.versions,
        "measured": facts["measured"],
        "all": outcomes(requests),
        "before": stage.seen_since("before", "shock"),
        "during": stage.seen_since("shock", "fallback"),
        "after": stage.seen_since("after"),
        "agreement": facts.get("agreement", []),
        "certificates": facts.get("certificates", []),
        "v2": facts.get("v2"),
        "bad": facts.get("bad"),
        "v3": facts.get("v3"),
        "shock": facts.get("shock"),
        "no_alarm": facts.get("no_alarm"),
        "collected": facts.get("collected", 0),
        "retraining": _retraining(facts.get("retraining")),
        "level": facts["level"],
        "why_not_higher": facts["why_not_higher"],
        "inspectors": {p.name: {"judged": p.judged, "wrong": p.wrong} for p in stage.inspectors},
        "faults": dict(stage.line.faults),
        "log": reconciled(stage),
    }


def note_level(stage: Stage) -> None:
    """Remember where the endpoint stands and what was certified, while the server can still be asked."""
    report = stage.operator.levels()
    stage.facts["level"] = report["level"]
    stage.facts["why_not_higher"] = report["why_not_higher"]
    stage.facts["certificates"] = [
        {k: c[k] for k in ("version", "side", "state", "threshold", "n", "k", "coverage", "claim", "cause")}
        for c in report["certificates"]
    ]


def reconciled(stage: Stage) -> dict[str, int]:
    """Compare the answers that the line got with the rows in the log, one by one."""
    folder = stage.project.folder()
    key = secret(folder)
    rows = Log(folder).query("SELECT run, seq FROM predictions WHERE route <> 'refused'").to_pylist()
    logged = [(row["run"], row["seq"]) for row in rows]
    answered = {decode_id(r.id, key) for r in stage.line.requests if r.id is not None}
    return {
        "answered": len(answered),
        "logged": len(logged),
        "lost": len(answered - set(logged)),
        "doubled": len(logged) - len(set(logged)),
        "undecided": sum(r.answered and r.by is None for r in stage.line.requests),
    }


def tell(narrator: Narrator, found: dict[str, Any]) -> None:
    """Say the summary in words."""
    narrator.heading("What happened")
    for sentence in sentences(found):
        narrator.line(sentence)


def sentences(found: dict[str, Any]) -> list[str]:
    """Return the summary as sentences."""
    everything, log = found["all"], found["log"]
    by = ", ".join(f"{n:,} by {_WHO.get(who, who)}" for who, n in everything["by"].items() if who != "open")
    still = everything["by"].get("open", 0)
    said = [
        f"{everything['requests']:,} photos in {found['seconds']:.0f} s; decided: {by or 'none'}"
        + (f"; of {still:,} the line heard no decision." if still else "."),
        f"{log['answered']:,} answers, {log['logged']:,} rows in the log, {log['lost']} lost, "
        f"{log['doubled']} doubled.",
    ]
    if found["faults"]:
        said.append("Without an answer: " + ", ".join(f"{n} {what}" for what, n in found["faults"].items()) + ".")
    said += _too_slow(found)
    said += [_phase(name, found[name]) for name in ("before", "during", "after") if found[name]["requests"]]
    said += [*_bad(found), *_shock(found)]
    valid = [c["claim"] for c in found["certificates"] if c["state"] == "valid"]
    bold = len({(c["version"], c["side"]) for c in found["certificates"]})
    said.append(
        f"Certificates: {len(found['certificates'])} issued for {bold} kinds of answers, {len(valid)} in force."
    )
    said += valid
    said.append(f"In the end: {found['level']}. Why not higher: {found['why_not_higher']}")
    judged = sum(p["judged"] for p in found["inspectors"].values())
    wrong = sum(p["wrong"] for p in found["inspectors"].values())
    return [
        *said,
        f"Inspectors gave {judged:,} judgements, {wrong:,} of them wrong ({wrong / max(judged, 1):.1%}).",
    ]


def _too_slow(found: dict[str, Any]) -> list[str]:
    """Say that the machine could not keep up, where that is why little was shown."""
    lost = sum(found["faults"].values())
    if lost <= TOO_MANY * found["all"]["requests"]:
        return []
    slower = max(0.1, round(found["speed"] / 3, 1))
    return [
        f"This machine was too busy for so many photos a second: {lost / found['all']['requests']:.0%} got no "
        f"answer, and what depends on them could not be shown. A slower line shows more: --speed {slower:g}."
    ]


def _phase(name: str, part: dict[str, Any]) -> str:
    words = {
        "before": "Before the shock",
        "during": "From the shock to the fallback",
        "after": "After retraining",
    }
    return (
        f"{words[name]}: {part['automated_share']:.0%} of {part['requests']:,} automated, "
        f"{part['wrong']} of {part['automated']:,} of these wrong ({part['error_among_automated']:.2%})."
    )


def _bad(found: dict[str, Any]) -> list[str]:
    bad = found["bad"]
    if bad is None:
        return []
    return [
        f"The bad version was {bad['state'].replace('_', ' ')}: it decided {bad['decided']} requests, "
        f"{bad['decided_wrong']} of them wrong; unseen it alone was wrong in {bad['shadow_wrong']} of "
        f"{bad['shadow_judged']} judged photos."
    ]


def _shock(found: dict[str, Any]) -> list[str]:
    shock = found["shock"]
    if shock is None:
        return [f"No alarm: {found['no_alarm']}"] if found["no_alarm"] else []
    return [
        f"Alarm after {shock['requests_to_alarm']} dark photos ({shock['seconds_to_alarm']:.1f} s): "
        f"{shock['alarm']}",
        f"The level fell {shock['alarm_to_level_s']} s after the alarm; the last automated photo was sent "
        f"{shock['alarm_to_last_automated_s']} s after it.",
    ]


def _retraining(run: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if run is None else {k: run[k] for k in ("id", "state", "version", "metrics", "cause")}
