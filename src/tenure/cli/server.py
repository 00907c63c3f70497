"""serve: workers and controller until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Annotated

import typer

from tenure.cli.options import ProjectOption


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("serve")(serve)


def serve(
    project: ProjectOption = None,
    open_loopback: Annotated[
        bool, typer.Option("--open-loopback", help="Ask callers on this machine for no token.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that answer.", show_default=False)] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default=False)] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Of the model's users; 0 picks one.", show_default=False)
    ] = None,
    console_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Of the console; 0 picks one.", show_default=False)
    ] = None,
) -> None:
    """Serve all endpoints of the project until Ctrl-C.

    Options win over the project file's `server` section. Ctrl-C and SIGTERM let running requests end first;
    what was answered is in the log.

    Examples:
    - `tenure serve --open-loopback`
    - `tenure serve --workers 4 --port 8700`
    """
    import msgspec

    from tenure.api import adhoc
    from tenure.system import Server

    found = adhoc.find(project)
    told = {"workers": workers, "host": host, "port": port, "console_port": console_port}
    changed = msgspec.structs.replace(found.server, **{k: v for k, v in told.items() if v is not None})
    server = Server(msgspec.structs.replace(found, server=changed), open_loopback=open_loopback)
    ended = threading.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: ended.set())
    _say(f"starting {found.project}: {', '.join(found.endpoints)}")
    with server:
        _say(f"requests  {server.url}/v1/NAME/predict")
        _say(f"console   {server.console_url}")
        access = "callers on this machine need no token" if open_loopback else "callers need a token"
        _say(f"{access}; Ctrl-C ends")
        ended.wait()
        _say("ending: running requests are answered first")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
