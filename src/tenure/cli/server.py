"""serve: workers and controller until Ctrl-C."""

from __future__ import annotations

import queue
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tenure.cli.options import ProjectOption

if TYPE_CHECKING:
    from tenure.system import Server


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
    what was answered is in the log. SIGHUP to a server without a terminal replaces its workers one after the
    other, so that new code is in force without a lost request.

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
    received: queue.SimpleQueue[int] = queue.SimpleQueue()
    for sig in (signal.SIGTERM, signal.SIGINT, *_renewing()):
        signal.signal(sig, lambda number, _: received.put(number))
    _say(f"starting {found.project}: {', '.join(found.endpoints)}")
    with server:
        _say(f"requests  {server.url}/v1/NAME/predict")
        _say(f"console   {server.console_url}")
        access = "callers on this machine need no token" if open_loopback else "callers need a token"
        _say(f"{access}; Ctrl-C ends")
        while received.get() == signal.SIGHUP:
            _renew(server)
        _say("ending: running requests are answered first")


def _renewing() -> tuple[signal.Signals, ...]:
    """Return the signal that renews the workers; a terminal that closes sends it to end what ran in it."""
    return () if sys.stdin is not None and sys.stdin.isatty() else (signal.SIGHUP,)


def _renew(server: Server) -> None:
    from tenure.errors import BusyError

    _say("renewing the workers, one after the other")
    try:
        server.renew()
    except BusyError as error:
        _say(f"not all are new: {error.message}")
    else:
        _say("all workers are new")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
