"""The story in six acts. Each act ends on evidence or says what was missing; every command goes over the API."""

from __future__ import annotations

from typing import Any

from tenure.demo.inspection import folder, models, project, train
from tenure.demo.inspection.stage import Stage

SETTLED = ("completed", "rolled_back", "cancelled")
ENOUGH = 1200
"""Blind labels after which one certified side will do: the other one goes on being earned."""

COLLECT = 2000
"""Judged dark photos before the next training; the newest fifth of all judged photos is kept to compare on."""


def play(stage: Stage) -> None:
    """Play all six acts."""
    first_version(stage)
    opening(stage)
    earning(stage)
    if "v2" in stage.versions:
        better_and_worse(stage)
    darkness(stage)
    earning_again(stage)


def first_version(stage: Stage) -> None:
    """Act 1: train on labelled photos, export to ONNX, register."""
    tell, source = stage.tell, stage.source
    tell.act(1, "a detector is trained on the spot")
    known = list(source.first())
    first = train.train(known, seed=stage.seed)
    folder.write(stage.project_folder / project.ORIGINALS, known)
    seen = stage.facts["measured"] = train.measure(first, source.test())
    tell.say(
        f"version 1 from {len(known)} labelled photos: AUC {seen['auc']:.3f}, {seen['error_at']['100%']:.1%} of "
        f"{seen['photos']} new photos wrong; {seen['error_at']['70%']:.1%} of the surest 70 %"
    )
    pilot = list(source.pilot())
    made = {"v1": first}
    more = list(source.more())
    if more:
        made |= {"v2": train.train(known + more, seed=stage.seed), "bad": train.broken(first)}
        tell.say(f"version 2 from {len(more)} photos more, and a version with a fault in its preprocessing")
    for name, trained in made.items():
        stage.versions[name] = models.register(stage.project, trained, sample=known[0], pilot=pilot)


def opening(stage: Stage) -> None:
    """Act 2: the server runs, the line posts, people decide everything."""
    tell = stage.tell
    tell.act(2, "the line runs; people decide everything")
    stage.open()
    tell.say(f"console: {stage.server.console_url}  log in with the operator's token {stage.tokens.operator}")
    tell.say(f"{len(stage.inspectors)} inspectors, {stage.line.rate:g} photos a second to {stage.server.url}")
    stage.mark("human_only")
    stage.let_run(250 if "v2" in stage.versions else 20, cap_s=15)
    by_people = sum(r.by == "person" for r in stage.line.requests)
    tell.say(f"human_only: {by_people} of {stage.line.count()} photos decided by people so far, none by a model")


def earning(stage: Stage) -> None:
    """Act 3: shadow, assist, partial: version 1 earns its place."""
    stage.tell.act(3, "version 1 earns its place")
    _put_in_force(stage, "v1")
    _climb(stage, name="before")
    stage.let_run(600, cap_s=20)
    _say_share(stage, "before")


def better_and_worse(stage: Stage) -> None:
    """Act 4: a better version takes over step by step; a bad one is rolled back by the gate."""
    stage.tell.act(4, "version 2 takes over step by step; a bad version does not")
    stage.facts["v2"] = _roll_out(stage, "v2", cap_s=90)
    if stage.facts["v2"]["state"] == "completed" and stage.operator.level() != "partial":
        _climb(stage, name="v2")
    stage.facts["bad"] = _roll_out(stage, "bad", cap_s=45)
    bad = stage.facts["bad"]
    stage.tell.say(
        f"the bad version decided {bad['decided']} requests, {bad['decided_wrong']} of them wrong; unseen, it "
        f"alone was wrong in {bad['shadow_wrong']} of {bad['shadow_judged']} judged photos"
    )


def darkness(stage: Stage) -> None:
    """Act 5: the light goes; the alarm names it, the level drops, people decide and label."""
    tell = stage.tell
    tell.act(5, "the light goes dark")
    known = {alarm["id"] for alarm in stage.operator.alarms()}
    shock_us = stage.now_us()
    stage.source.darken()
    shock = stage.mark("shock")

    def fires() -> tuple[bool, str]:
        new = [a for a in stage.operator.alarms() if a["id"] not in known and a["state"] == "firing"]
        stage.facts["alarms"] = new
        return bool(new), f"{stage.line.count() - shock} photos since the light changed, no alarm yet"

    if not stage.until(fires, cap_s=30):
        stage.facts["no_alarm"] = _blind_boards(stage)
        tell.say(f"no alarm: {stage.facts['no_alarm']}")
        return
    alarm = stage.facts["alarms"][-1]
    stage.until(lambda: (stage.operator.level() != "partial", "the level has not dropped yet"), cap_s=10)
    stage.mark("fallback")
    report = stage.operator.levels()
    stage.facts["shock"] = _shock_facts(stage, alarm, report, shock_us=shock_us)
    tell.say(f"alarm after {stage.facts['shock']['requests_to_alarm']} photos: {alarm['message']}")
    tell.say(f"level {report['level']}: {report['cause'][:120]}")
    for fired in stage.facts["alarms"]:
        stage.operator.acknowledge(fired["id"])
    stage.operator.note("the lamp over the line is broken")
    if stage.operator.move("shadow") is None:
        tell.say("the operator hides the answers of a detector that sees little: shadow")
    stage.facts["collected"] = _collect(stage)


def earning_again(stage: Stage) -> None:
    """Act 6: retrain on the original and the collected photos; version 3 earns its way up."""
    tell = stage.tell
    tell.act(6, "version 3 is trained on what people said, and earns its way up again")
    run = stage.operator.retrain("the lamp is broken")

    def trained() -> tuple[bool, str]:
        found = stage.operator.retraining(run)
        stage.facts["retraining"] = found
        return found["state"] in ("registered", "failed"), f"training is {found['state']}"

    stage.until(trained, cap_s=180)
    found = stage.facts["retraining"]
    if found["state"] != "registered":
        tell.say(f"the training is {found['state']}: {found['log'][-300:]}")
        return
    stage.versions["v3"] = found["version"]
    tell.say(_compared(found))
    stage.facts["v3"] = _roll_out(stage, "v3", cap_s=90)
    _climb(stage, name="after")
    stage.let_run(500, cap_s=15)
    _say_share(stage, "after")


# Parts of the acts


def _put_in_force(stage: Stage, name: str) -> None:
    """Put the first version in force: there is nothing to compare it with, so the operator promotes it."""
    number = stage.operator.roll_out(stage.versions[name])
    stage.operator.command(number, "promote", "the first version; people decide everything anyway")
    stage.until(lambda: (stage.operator.rollout(number)["state"] == "completed", "not in force yet"), cap_s=15)


def _climb(stage: Stage, *, name: str) -> None:
    """Go up as far as the evidence allows: shadow, assist, partial."""
    operator, tell = stage.operator, stage.tell
    if operator.level() == "human_only" and (why := operator.move("shadow")) is not None:
        tell.say(f"stays at human_only: {why}")
        return
    if operator.level() == "shadow":
        tell.say("shadow: the model's answers are logged and never returned; people judge blind")
        stage.until(lambda: _certified(stage), cap_s=45)
        _say_agreement(stage)
        if (why := operator.move("assist")) is not None:
            tell.say(f"stays at shadow: {why}")
            return
    tell.say("assist: inspectors see the model's boxes, and decide")
    stage.let_run(150, cap_s=10)
    if (why := operator.move("partial")) is not None:
        stage.facts["why_not_partial"] = why
        tell.say(f"stays at {operator.level()}: {why}")
        return
    for certificate in _in_force(operator.levels()):
        tell.say(f"partial: {certificate['claim']}")
    stage.mark(name)


def _certified(stage: Stage) -> tuple[bool, str]:
    """Say whether every side of the stable version holds a certificate, and what is missing."""
    report = stage.operator.levels()
    sides = {c["side"] for c in _in_force(report)}
    wanted = set(stage.project.endpoints[project.ENDPOINT].automation.sides)
    notes = [
        f"{row['side']}: {row['note']}"
        for row in report["lineages"]
        if row["version"] == report["version"] and row["state"] != "closed" and row["side"] not in sides
    ]
    stage.facts["missing"] = notes
    over = stage.line.is_empty and not stage.line.open()  # no more labels will come
    enough = bool(sides) and int(report["labels"]) >= ENOUGH
    return wanted <= sides or enough or over, "; ".join(notes) or "no evidence yet"


def _in_force(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [c for c in report["certificates"] if c["state"] == "valid" and c["version"] == report["version"]]


def _say_agreement(stage: Stage) -> None:
    shadow = stage.operator.levels()["shadow"]
    stage.facts.setdefault("agreement", []).append(shadow["sentence"] if shadow else "")
    if not shadow:
        return
    stage.tell.say(shadow["sentence"])
    for way in shadow["directions"]:
        stage.tell.say(
            f"model {way['model']}, person {way['person']}: {way['count']} of {way['of']} "
            f"({way['low']:.1%} to {way['high']:.1%})"
        )


def _say_share(stage: Stage, name: str) -> None:
    seen = stage.seen_since(name)
    stage.tell.say(
        f"{seen['automated_share']:.0%} automated; {seen['wrong']} of {seen['automated']} of these wrong"
    )


def _roll_out(stage: Stage, name: str, *, cap_s: float) -> dict[str, Any]:
    """Start a rollout, watch it to its end, and return what the version did."""
    operator, version = stage.operator, stage.versions[name]
    begin, number = stage.line.count(), operator.roll_out(version)
    stage.tell.say(f"rollout of {name} {version}")
    step, hidden = -1, operator.level() in ("human_only", "shadow")

    def ended() -> tuple[bool, str]:
        nonlocal step
        found = operator.rollout(number)
        if found["state"] == "paused":
            operator.command(number, "resume", "looked at")
        elif hidden and found["step"] > 0 and found["state"] == "running":
            operator.command(number, "promote", "at shadow nobody sees its answers: no share shows more")
        if found["step"] != step and found["state"] == "running":
            step = found["step"]
            stage.tell.say(f"  step {step + 1}: {_step(found['ladder'][step])}")
        over = found["state"] in SETTLED
        return over or stage.line.is_empty, f"{name}: " + ("; ".join(found["waits"]) or found["state"])

    if not stage.until(ended, cap_s=cap_s):
        operator.command(number, "cancel", "no time left in this story")
    found = operator.rollout(number)
    stage.tell.say(f"{name} {_end(found)}")
    return _rollout_facts(stage, found, begin=begin, version=version)


def _end(found: dict[str, Any]) -> str:
    if found["state"] == "completed":  # the reason counts the requests of the last step, which is over at once
        return f"is in force: {found['reason'].rpartition('; ')[2]}"
    return f"{found['state'].replace('_', ' ')}: {found['reason'][:220]}"


def _step(rung: dict[str, Any]) -> str:
    if rung["share"] is None:
        return "unseen beside the stable version"
    return f"answers {rung['share']:.0%} of the photos"


def _rollout_facts(stage: Stage, found: dict[str, Any], *, begin: int, version: str) -> dict[str, Any]:
    mine = [r for r in stage.line.since(begin) if r.by == "model" and r.version == version]
    first = [v["numbers"] for v in found["verdicts"] if v["gate"] == "wrong_decision" and v["step"] == 0]
    gate: dict[str, Any] = first[0] if first else {}
    return {
        "version": version,
        "state": found["state"],
        "reason": found["reason"],
        "requests": stage.line.count() - begin,
        "routed": found["answered"]["requests"],
        "decided": len(mine),
        "decided_wrong": sum(r.value != r.truth for r in mine),
        "shadow_judged": int(gate.get("n1", 0)),
        "shadow_wrong": int(gate.get("x1", 0)),
    }


def _shock_facts(stage: Stage, alarm: dict[str, Any], report: dict[str, Any], *, shock_us: int) -> dict[str, Any]:
    since = stage.line.since(stage.marks["shock"])
    alarm_s = stage.at_s(alarm["fired_us"])
    down = next((m for m in report["moves"] if m["author"] == "alarm"), None)
    automated = [r.sent_s for r in since if r.by == "model"]
    return {
        "alarm": alarm["message"],
        "metric": alarm["metric"],
        "stage": alarm["stage"],
        "shape": alarm["shape"],
        "requests_to_alarm": sum(r.sent_s <= alarm_s for r in since),
        "seconds_to_alarm": round((alarm["fired_us"] - shock_us) / 1e6, 2),
        "alarm_to_level_s": round((down["at_us"] - alarm["fired_us"]) / 1e6, 3) if down else None,
        "alarm_to_last_automated_s": round(max(0.0, max(automated) - alarm_s), 3) if automated else 0.0,
        "level": report["level"],
    }


def _blind_boards(stage: Stage) -> str:
    """Say why the drift boards did not fire."""
    boards = stage.operator.reference()["boards"]
    return "; ".join(f"board {b['board']}: {b['note']}" for b in boards)


def _collect(stage: Stage) -> int:
    """Let people judge dark photos until there are enough to learn from; returns how many."""
    dark = stage.marks["shock"]

    def judged() -> int:
        return sum(r.by == "person" for r in stage.line.since(dark))

    stage.until(
        lambda: (judged() >= COLLECT or stage.line.is_empty, f"{judged()} of {COLLECT} dark photos judged"),
        cap_s=50,
    )
    stage.tell.say(f"{judged()} dark photos judged by people")
    return judged()


def _compared(run: dict[str, Any]) -> str:
    metrics = run["metrics"]
    comparison = metrics.get("comparison") or {}
    said = comparison.get("sentence") or metrics.get("verdict") or ""
    return f"trained {run['version']}: {said or metrics}"
