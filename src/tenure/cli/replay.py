"""replay: what another plan would have done with the logged traffic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenure.cli import show
from tenure.cli.options import JsonOption, ProjectOption

if TYPE_CHECKING:
    from tenure.cli.office import Office
    from tenure.deploy.replay.stages import Replayed
    from tenure.deploy.rollout.plan import Plan

_NS = 1_000_000_000


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("replay")(replay)


def replay(
    endpoint: Annotated[str, typer.Argument(help="Its name.")],
    plan: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="YAML: what stands under `rollout:` of an endpoint.")
    ],
    since: Annotated[
        str, typer.Option(help="From when: so long ago, such as 7d, or a time with its zone.")
    ] = "7d",
    until: Annotated[str, typer.Option(help="To when, alike; default: now.")] = "",
    candidate: Annotated[
        str | None, typer.Option(help="Default: of the newest rollout.", show_default=False)
    ] = None,
    stable: Annotated[
        str | None, typer.Option(help="Default: of the newest rollout.", show_default=False)
    ] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Say what a rollout with another plan would have done with the logged traffic.

    It draws each logged request with the plan's shares and asks the gates that production asks, with reactions
    and labels as they came. What the log does not hold it cannot know: see docs/howto/replay.md.

    Example: `tenure replay phones --plan other.yaml --since 7d`
    """
    from tenure.cli.office import office

    with office(project) as desk:
        name = desk.endpoint(endpoint)
        versions = _versions(desk, name, candidate, stable)
        now_us = desk.state.now_us()
        chosen = _plan(desk, name, plan)
        span = _moment(since, now_us, "--since"), _moment(until or "0", now_us, "--until")
        found = _replayed(desk, name, versions=versions, plan=chosen, span=span)
    if json:
        show.as_json(found)
    else:
        _print(name, found)


def _versions(desk: Office, endpoint: str, candidate: str | None, stable: str | None) -> tuple[str, str]:
    from tenure.errors import CaseError

    last: dict[str, Any] = next(iter(desk.rollouts.history(endpoint)), {})
    new, old = candidate or last.get("candidate"), stable or last.get("stable")
    if not new or not old:
        raise CaseError(
            f"{endpoint} had no rollout of one version against another; say --candidate and --stable",
            at="--candidate",
        )
    if new == old:
        raise CaseError(f"{new} cannot be compared with itself", at="--stable")
    return str(new), str(old)


def _plan(desk: Office, endpoint: str, path: Path) -> Plan:
    import msgspec

    from tenure.deploy.rollout.plan import plan_from_spec, problems
    from tenure.errors import CaseError
    from tenure.scope.reader import read_rollout

    spec = read_rollout(path.read_text(encoding="utf-8"), path.name)
    promised = desk.project.endpoints[endpoint]
    plan = msgspec.structs.replace(plan_from_spec(spec, desk.project.scope.case), loss=promised.automation.loss)
    if wrong := problems(plan, endpoint=promised):
        raise CaseError("; ".join(wrong), code="plan_shows_nothing", at=str(path))
    return plan


def _moment(text: str, now_us: int, option: str) -> int:
    from tenure.console.history import moment
    from tenure.errors import CaseError
    from tenure.scope.units import duration

    if "T" in text:
        return moment(text, now_us)
    try:
        return now_us - int(duration(text) * 1e6)
    except ValueError as error:
        raise CaseError(f"{error}, or a time such as 2026-05-01T12:00:00Z", at=option) from None


def _replayed(
    desk: Office, endpoint: str, *, versions: tuple[str, str], plan: Plan, span: tuple[int, int]
) -> Replayed:
    from tenure import system
    from tenure.data.view import Log
    from tenure.deploy.replay import rows
    from tenure.deploy.replay.items import items
    from tenure.deploy.replay.replay import replay as run
    from tenure.errors import CaseError

    (candidate, stable), (since_us, until_us) = versions, span
    secret, now_us = system.secret(desk.folder), desk.state.now_us()
    with desk.state.read() as conn:
        asked = items(conn, endpoint, secret=secret, since_us=since_us, until_us=until_us)
        origin = rows.origin(conn, endpoint, candidate=candidate, stable=stable, until_us=until_us)
    log = Log(desk.folder, timeout_s=600.0)
    try:
        traffic = rows.traffic(
            log, endpoint, candidate=candidate, stable=stable, since_ns=since_us * 1000, until_ns=until_us * 1000,
            plan=plan, items=asked, origin=origin,
        )  # fmt: skip
    finally:
        log.close()
    if not len(traffic.t_ns):
        raise CaseError(
            f"{endpoint} answered nothing from {show.when(span[0])} to {show.when(span[1])}", at="--since"
        )
    return run(traffic, plan, candidate=candidate, stable=stable, until_ns=now_us * 1000)


def _print(endpoint: str, found: Replayed) -> None:
    words = {
        "rolled_back": "would have rolled back", "completed": "would have completed",
        "paused": "would have paused", "running": "would still run when the log ends",
    }  # fmt: skip
    where = f"at {show.when(found.at_us)}, after {found.requests:,} requests"
    print(f"{endpoint}: {found.candidate} against {found.stable} {words[found.state]} {where}")
    print(f"  {found.stages[-1].reason}\n")
    show.table([_line(s) for s in found.stages], list(_line(found.stages[0])), empty="")
    log = {name: show.percent(share) for name, share in found.log.items()}
    served = ", ".join(f"{value:,.0f} {gate}" for gate, value in found.bad.items()) or "no gate counts any"
    print(f"\nbad answers that the candidate would have served, as an estimate: {served}")
    print(
        f"the log shows both versions' answers for {log['both']} of requests, the candidate's alone for "
        f"{log['candidate']}, the stable version's alone for {log['stable']}, neither for {log['neither']}"
    )
    if found.log["both"] < 1.0:
        print(
            "requests whose drawn answer it lacks are left out and the others re-weighted; moves then come later"
        )
    if any(stage.approval for stage in found.stages):
        print("approvals count as given at once")
    print(f"it looked every {found.look_s:,.0f} s")


def _line(stage: Any) -> dict[str, Any]:
    return {
        "step": stage.step,
        "share": "shadow" if stage.share is None else show.percent(stage.share),
        "from": show.when(stage.began_us),
        "to": show.when(stage.ended_us),
        "requests": f"{stage.requests:,}",
        "candidate": f"{stage.drawn:,}",
        "in the log": f"{stage.shown:,}",
        "bad": ", ".join(f"{gate} {value:,.0f}" for gate, value in stage.bad.items()),
        "then": stage.outcome,
    }
