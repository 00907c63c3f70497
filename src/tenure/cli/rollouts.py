"""rollout, rollback: bring a new version in step by step, and give it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tenure.cli import show
from tenure.cli.options import EndpointOption, JsonOption, ProjectOption, ReasonOption

if TYPE_CHECKING:
    from tenure.scope.project import Case, Strategy

group = typer.Typer(help="Bring a new version in, step by step.", no_args_is_help=True)
NumberArgument = Annotated[
    str | None,
    typer.Argument(help="Id of the rollout; default: the endpoint's active one.", show_default=False),
]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(group, name="rollout")
    app.command("rollback")(rollback)


@group.command("start")
def start(
    version: Annotated[str, typer.Argument(help="A registered version; `tenure versions` lists them.")],
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="YAML file with the keys of a `rollout` section; default: the endpoint's."),
    ] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="canary, blue_green or shadow, instead of the plan's steps.")
    ] = None,
    case: Annotated[
        str | None,
        typer.Option("--case", help="new, assist or replace: the plan for that case, instead of a strategy."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and what is wrong with it; start nothing.")
    ] = False,
    reason: ReasonOption = "",
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
) -> None:
    """Start the endpoint's plan with a version as its candidate.

    Examples:
    - `tenure rollout start scratch@9f3c21aa --endpoint phones`
    - `tenure rollout start scratch@9f3c21aa --strategy blue_green --dry-run`
    - `tenure rollout start scratch@9f3c21aa --case replace`
    """
    from tenure.cli.office import office
    from tenure.deploy.rollout.outline import in_words
    from tenure.deploy.rollout.plan import problems
    from tenure.errors import CaseError
    from tenure.scope.reader import load_plan

    if strategy not in (None, "canary", "blue_green", "shadow"):
        raise CaseError(f"--strategy {strategy}: expected canary, blue_green or shadow", at="strategy")
    if case not in (None, "new", "assist", "replace"):
        raise CaseError(f"--case {case}: expected new, assist or replace", at="case")
    if strategy is not None and case is not None:
        raise CaseError("--strategy and --case each name the steps: give one of them", at="case")

    with office(project) as desk:
        name = desk.registry.describe(version).endpoint if endpoint is None else desk.endpoint(endpoint)
        spec = None if plan is None else load_plan(plan, desk.project.data.unit)
        chosen = desk.rollouts.plan(
            name, spec=spec, strategy=cast("Strategy | None", strategy), case=cast("Case | None", case)
        )
        if dry_run:
            wrong = problems(chosen, endpoint=desk.project.endpoints[name])
            print("\n".join([*in_words(chosen), *(f"refused: {p}" for p in wrong)]))
            return
        number = desk.rollouts.start(name, version, by=desk.by, plan=chosen, reason=reason)
    print(number)


@group.command("pause")
def pause(
    number: NumberArgument = None,
    reason: ReasonOption = "",
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
) -> None:
    """Hold the share where it is; a gate that fails still rolls back.

    Example: `tenure rollout pause --reason "wait for the night shift"`
    """
    _command("pause", number, reason, project, endpoint)


@group.command("resume")
def resume(
    number: NumberArgument = None,
    reason: ReasonOption = "",
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
) -> None:
    """Let a paused rollout go on.

    Example: `tenure rollout resume`
    """
    _command("resume", number, reason, project, endpoint)


@group.command("approve")
def approve(
    number: NumberArgument = None,
    reason: ReasonOption = "",
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
) -> None:
    """Approve the step at hand; it goes on once all else is met, and any move makes the approval void.

    Example: `tenure rollout approve --reason "seen by quality"`
    """
    _command("approve", number, reason, project, endpoint)


@group.command("jump")
def jump(
    step: Annotated[int, typer.Argument(help="Number of the step, as `tenure rollout show` prints it.")],
    number: NumberArgument = None,
    reason: ReasonOption = "",
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
) -> None:
    """Go to another step; back draws anew and begins with no evidence.

    Example: `tenure rollout jump 1 --reason "the night shift looked odd"`
    """
    _command("jump", number, reason, project, endpoint, step - 1)


@group.command("promote")
def promote(
    number: NumberArgument = None,
    reason: ReasonOption = "",
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
) -> None:
    """Go one step on at your word; also the approval that a step with `approve: true` waits for.

    Example: `tenure rollout promote --reason "seen by quality"`
    """
    _command("promote", number, reason, project, endpoint)


@group.command("rollback")
def rollback_rollout(
    number: NumberArgument = None,
    reason: ReasonOption = "",
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
) -> None:
    """Give every request back to the stable version.

    Example: `tenure rollout rollback --reason "complaints from line 3"`
    """
    _command("rollback", number, reason, project, endpoint)


@group.command("cancel")
def cancel(
    number: NumberArgument = None,
    reason: ReasonOption = "",
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
) -> None:
    """End a rollout without a judgement of its candidate.

    Example: `tenure rollout cancel`
    """
    _command("cancel", number, reason, project, endpoint)


@group.command("show")
def show_(
    number: NumberArgument = None,
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
    json: JsonOption = False,
) -> None:
    """Show a rollout: its ladder, what it waits for, and its moves; without an active one, the list.

    Examples:
    - `tenure rollout show`
    - `tenure rollout show r-1f0c9d --json`
    """
    from tenure.cli.office import office

    with office(project) as desk:
        if number is None:
            name = desk.endpoint(endpoint)
            active = desk.rollouts.active(None, name)
            if active is None:
                _list(desk.rollouts.history(name), json=json)
                return
            number = active.id
        found = desk.rollouts.describe(number)
    if json:
        show.as_json(found)
    else:
        _print(found)


def rollback(
    offline: Annotated[
        bool, typer.Option("--offline", help="Also where the controller is down: write the routing table itself.")
    ] = False,
    reason: ReasonOption = "",
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
) -> None:
    """Give every request back to the stable version, now.

    With --offline a new routing table is written for the workers, which see it within 0.1 s. It is refused while
    a controller lives, because then `tenure rollback` alone does it.

    Examples:
    - `tenure rollback --endpoint phones`
    - `tenure rollback --offline --reason "the controller does not start"`
    """
    if not offline:
        _command("rollback", None, reason, project, endpoint)
        return
    from tenure.cli import offline as routing
    from tenure.cli.office import office

    with office(project) as desk:
        for sentence in routing.roll_back(desk, desk.endpoint(endpoint), reason):
            print(sentence)


def _command(
    name: str, number: str | None, reason: str, project: Path | None, endpoint: str | None, *more: int
) -> None:
    from tenure.cli.office import office
    from tenure.errors import MissingError

    with office(project) as desk:
        if number is None:
            wanted = desk.endpoint(endpoint)
            active = desk.rollouts.active(None, wanted)
            if active is None:
                raise MissingError(f"no rollout of {wanted} is active; `tenure rollout show` lists them")
            number = active.id
        getattr(desk.rollouts, name)(number, *more, by=desk.by, reason=reason)
        found = desk.rollouts.get(number)
    print(f"{number}: {found.state} at step {found.step + 1} of {len(found.plan.steps)}")


def _list(found: list[dict[str, Any]], *, json: bool) -> None:
    columns = ("id", "candidate", "stable", "state", "created_us", "reason")
    show.rows(found, columns, json=json, empty="no rollouts; `tenure rollout start VERSION` starts one")


def _print(found: dict[str, Any]) -> None:
    print(f"{found['id']}: {found['candidate']} against {found['stable'] or 'people'}: {found['state']}")
    for step in found["ladder"]:
        kind = "shadow" if step["shadow"] else "share"
        what = f"{kind} {show.percent(step[kind])}"
        print(f"  {step['step'] + 1}. {what:<14} {step['state']:<6} {step['requests']} requests")
        for sentence in step["sentences"]:
            print(f"       {sentence}")
    for gate, number in found["outstanding"].items():
        print(f"  outstanding: {number} requests without {gate.replace('_', ' ')} yet")
    if found["forecast"]:
        print(f"  forecast: {found['forecast']['sentence']}")
    if found["asks"]:
        print(f"  asks: {found['asks']}")
    if found["approved_by"]:
        print(f"  approved by {found['approved_by']}")
    for waits in found["waits"]:
        print(f"  waits: {waits}")
    for move in found["moves"]:
        print(f"  {show.when(move['at_us'])}  {move['from_state']} -> {move['to_state']}: {move['reason']}")
