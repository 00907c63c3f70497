"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ProjectOption = Annotated[
    Path | None,
    typer.Option(
        "--project",
        "-p",
        envvar="TENURE_PROJECT",
        help="Project file, or data folder without one. Default: tenure.yaml here, else tenure-data.",
        show_default=False,
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint", "-e", help="Its name; not needed where there is only one.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
ReasonOption = Annotated[str, typer.Option("--reason", "-r", help="Why; kept in the audit trail.")]
RevealOption = Annotated[
    str | None,
    typer.Option(
        "--reveal",
        help="Let masked fields go along, for this reason; the audit trail keeps who, which and why.",
        show_default=False,
    ),
]
