"""`tenure demo inspection`."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from tenure.clock import SystemClock
from tenure.demo.inspection import project, story, summary
from tenure.demo.inspection.narrator import Narrator
from tenure.demo.inspection.source import Folder, Rendered, Source
from tenure.demo.inspection.stage import Stage
from tenure.errors import TenureError

app = typer.Typer(help="Runnable demonstrations.", no_args_is_help=True)


@app.callback()
def main() -> None:
    """Show tenure on a made-up factory."""


@app.command()
def inspection(
    once: Annotated[bool, typer.Option("--once", help="End after the story instead of staying up.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the summary as JSON here.")] = None,
    speed: Annotated[float, typer.Option(min=0.1, max=4.0, help="Factor on the 50 photos a second.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, max=999, help="Of the photos and of the inspectors' errors.")] = 1,
    photos: Annotated[
        Path | None, typer.Option(help="A folder of real photos with an index.jsonl, instead of rendered ones.")
    ] = None,
    port: Annotated[int, typer.Option(help="Of the data plane; 0 picks a free one.")] = 0,
    console_port: Annotated[int, typer.Option(help="Of the console; 0 picks a free one.")] = 0,
    keep: Annotated[Path | None, typer.Option(help="Keep the project and its data in this new folder.")] = None,
) -> None:
    """Play the life of a defect model beside human inspectors, live, through the public API."""
    try:
        found = run(
            once=once, speed=speed, seed=seed, photos=photos, port=port, console_port=console_port, keep=keep
        )
    except TenureError as error:
        typer.echo(f"tenure: {error.message}", err=True)
        raise typer.Exit(2) from error
    if json_path is not None:
        json_path.write_text(json.dumps(found, indent=1))


def run(
    *,
    once: bool = True,
    speed: float = 1.0,
    seed: int = 1,
    photos: Path | None = None,
    port: int = 0,
    console_port: int = 0,
    keep: Path | None = None,
    narrator: Narrator | None = None,
) -> dict[str, Any]:
    """Play the story and return its summary.

    Raises:
        TenureError: the photos cannot be read, the folder is in use, or the server does not start.
    """
    clock = SystemClock()
    tell = narrator or Narrator(clock)
    source: Source = Rendered(seed) if photos is None else Folder(photos, seed)
    with ExitStack() as ends:
        folder = keep or Path(ends.enter_context(TemporaryDirectory(prefix="tenure-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        tell.say(f"working folder: {folder}")
        made = project.write(
            folder, port=port, console_port=console_port, qps=2 * source.rate * speed, real=photos is not None
        )
        stage = Stage(made, project.people(made), source, seed=seed, speed=speed, clock=clock, tell=tell)
        return _play(stage, once=once)


def _play(stage: Stage, *, once: bool) -> dict[str, Any]:
    try:
        with stage.tell.live():
            story.play(stage)
        summary.note_level(stage)
        if not once:
            stage.tell.say("The line goes on until you press Ctrl-C.")
            _until_interrupted()
            summary.note_level(stage)
    finally:
        stage.close()
    found = summary.summary(stage)
    summary.tell(stage.tell, found)
    return found


def _until_interrupted() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    stop = threading.Event()
    old = {sig: signal.signal(sig, lambda *_: stop.set()) for sig in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not stop.wait(1.0):
            pass
    finally:
        for sig, handler in old.items():
            signal.signal(sig, handler)
