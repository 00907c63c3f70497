"""load, plan: whether an endpoint holds its promises, and what it will need."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tenure.cli.options import ProjectOption


class StartLevel(StrEnum):
    """A level that needs no certificate."""

    human_only = "human_only"
    shadow = "shadow"
    assist = "assist"
    full = "full"


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("load")(load)
    app.command("plan")(plan)


def load(
    endpoint: Annotated[
        str | None, typer.Argument(help="Its name; not needed where there is only one.", show_default=False)
    ] = None,
    qps: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="Requests a second; of --find the first. Default: serve.qps.", show_default=False
        ),
    ] = None,
    length: Annotated[str, typer.Option("--for", help="How long, such as 30s or 2m; at most 1h.")] = "30s",
    find: Annotated[bool, typer.Option("--find", help="Search the highest rate that holds.")] = False,
    ramp: Annotated[bool, typer.Option("--ramp", help="Climb from a tenth of the rate to the rate.")] = False,
    poisson: Annotated[
        bool, typer.Option("--poisson/--constant", help="Callers at random, or evenly spaced.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the random times.")] = 0,
    warmup: Annotated[str, typer.Option(help="Time before, at the same rate, that is not counted.")] = "2s",
    samples: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="What to send: a folder of files, or a .jsonl or .txt file with one input a line. Default: the "
            "samples of the registered versions.",
            show_default=False,
        ),
    ] = None,
    concurrency_limit: Annotated[int, typer.Option(min=1, max=20_000, help="Most connections at once.")] = 512,
    timeout: Annotated[str, typer.Option(help="After this a request counts as unanswered.")] = "10s",
    level: Annotated[
        StartLevel | None,
        typer.Option(help="Test the copy at this level. Default: the level in force.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Of the copy. Default: server.workers.", show_default=False)
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Test a copy although a server runs.")] = False,
    against_live: Annotated[
        bool, typer.Option("--against-live", help="Load the running server; its log will hold every request.")
    ] = False,
    url: Annotated[
        str | None, typer.Option(help="Address of a server, with --against-live.", show_default=False)
    ] = None,
    token: Annotated[str, typer.Option(envvar="TENURE_TOKEN", help="Of a client.", show_default=False)] = "",
    yes_remote: Annotated[
        bool, typer.Option("--yes-remote", help="It is not on this machine, and I may load it.")
    ] = False,
    step: Annotated[str, typer.Option(help="Length of each step of --find.")] = "4s",
    ceiling: Annotated[float, typer.Option(min=0.5, help="--find tries no higher rate.")] = 20_000.0,
    json: Annotated[
        Path | None, typer.Option(help="Write all figures there; - is stdout.", show_default=False)
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them there: .svg or .png.", show_default=False)] = None,
    project: ProjectOption = None,
) -> None:
    """Send requests at a fixed rate and hold the answers against `serve.latency` and `serve.qps`.

    The rate does not slow down when the server does: times are drawn beforehand, and latency counts from them
    (no coordinated omission). p99 must be within `serve.latency`; a request that fails or is shed is late.

    Without a running server, one is started from the project file on a temporary copy of the data folder, so that
    nothing that is sent becomes evidence, reviews or drift. A running server is loaded only with
    `--against-live`: its log, reviews and monitoring will count the requests, with the unit `load-test`.

    Exit code 0: holds. 1: does not hold (with --find: no rate holds). 2: could not be measured, also when the
    generator itself was too slow.

    Examples:
    - `tenure load` tests serve.qps for 30 s on a copy
    - `tenure load phones --qps 1000 --for 30s --plot latency.svg`
    - `tenure load phones --find` finds the highest rate that holds
    - `tenure load phones --level full --samples photos/ --ramp`
    - `tenure load phones --against-live --token tc_... --json -`
    """
    from rich.console import Console

    from tenure.cli import capacity_run as run
    from tenure.cli.office import office

    load = run.load_of(
        rate=qps or 0.0, seconds=length, warmup=warmup, timeout=timeout, connections=concurrency_limit,
        pattern="poisson" if poisson else "constant", seed=seed, ramp=ramp,
    )  # fmt: skip
    place = run.Place(
        url=url, token=token, copy=copy, against_live=against_live, yes_remote=yes_remote, workers=workers,
        level=level.value if level else None,
    )  # fmt: skip
    console = Console(stderr=str(json) == "-", highlight=False)
    with office(project) as desk:
        name = desk.endpoint(endpoint)
        inputs = run.inputs(desk, name, samples)
        with run.target(desk, place, console) as found:
            ready = run.aimed(load, found, name, inputs, spec=desk.spec(name))
            if find:
                done = run.find(ready, found, console, step=step, ceiling=ceiling)
            else:
                done = run.once(ready, found, console, serve=desk.spec(name).serve)
    run.keep(done, json=json, plot=plot, title=f"{name} at {ready.rate:g} requests a second")
    raise typer.Exit(done.code)


def plan(
    endpoint: Annotated[
        str | None, typer.Argument(help="Its name; not needed where there is only one.", show_default=False)
    ] = None,
    mean_qps: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Mean requests a second, for log and people. Default: serve.qps.", show_default=False
        ),
    ] = None,
    automated: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of requests that the model decides. Default: as it is now.",
            show_default=False,
        ),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Default: of this machine.", show_default=False),
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(exists=True, help="Inputs, as `tenure load` takes them.", show_default=False)
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write all figures there; - is stdout.", show_default=False)
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Predict what an endpoint needs: workers and machines, log a day, people for review.

    The version in force is run in this process at batches of 1 to 64, and the server's own cost is measured on a
    temporary server. The rate that holds `serve.latency` is then simulated. Each number is shown with its origin:
    measured, from the file, or assumed. It takes about 20 s. `tenure load --find` measures what this predicts.

    Exit code 0: this machine with the file's workers is enough for serve.qps, and people are enough. 1: not.

    Examples:
    - `tenure plan`
    - `tenure plan phones --mean-qps 40 --automated 0.9`
    - `tenure plan phones --cores 16 --json plan.json`
    """  # fmt: skip
    from rich.console import Console

    from tenure.cli import capacity_plan as planning
    from tenure.cli import capacity_run as run
    from tenure.cli.office import office

    console = Console(stderr=str(json) == "-", highlight=False)
    with office(project) as desk:
        name = desk.endpoint(endpoint)
        inputs = run.inputs(desk, name, samples)
        found = planning.make(desk, name, inputs, mean_qps=mean_qps, automated=automated, cores=cores)
    planning.show(found, console)
    run.write_json({"plan": planning.as_plain(found)}, json, title=name)
    raise typer.Exit(0 if found.holds and found.enough_people is not False else 1)
