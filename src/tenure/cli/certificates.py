"""certificate: what was certified, on what evidence, and the same numbers computed again."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from tenure.cli import show
from tenure.cli.options import EndpointOption, JsonOption, ProjectOption

group = typer.Typer(help="Certificates of automation: list, show, verify.", no_args_is_help=True)
Number = Annotated[int, typer.Argument(help="Number of the certificate, from `tenure certificate list`.")]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(group, name="certificate")


@group.command("list")
def list_(project: ProjectOption = None, endpoint: EndpointOption = None, json: JsonOption = False) -> None:
    """List certificates, newest first: state, version, segment, answer, counts.

    Example: `tenure certificate list`
    """
    import sqlalchemy as sa

    from tenure.cli.office import office
    from tenure.data import tables as t

    query = sa.select(t.certificates).order_by(t.certificates.c.id.desc())
    with office(project) as desk:
        if endpoint:
            query = query.where(t.certificates.c.endpoint == desk.endpoint(endpoint))
        with desk.state.read() as conn:
            found = [dict(row) for row in conn.execute(query).mappings()]
    if json:
        show.as_json([{k: v for k, v in row.items() if k != "evidence"} for row in found])
        return
    for row in found:
        what = "all answers" if row["side"] == "*" else f"answers {row['side']!r}"
        where = f"segment {row['segment']}, " if row["segment"] else ""
        print(
            f"{row['id']}: {row['state']}, {row['version']}, {where}{what}, "
            f"confidence >= {row['threshold']:.4g}, {row['k']} errors in {row['n']}, "
            f"since {show.when(row['issued_us'])}"
        )


@group.command("show")
def show_(number: Number, project: ProjectOption = None, json: JsonOption = False) -> None:
    """Show one certificate: its claim, its attempt, its audits, how it ends or ended.

    Example: `tenure certificate show 3`
    """
    from tenure.cli.office import office
    from tenure.deploy.automation import certificates, verify

    with office(project) as desk, desk.state.read() as conn:
        row = verify.find(conn, number)
        evidence = certificates.evidence_of(row)
    if json:
        show.as_json({**row, "evidence": msgspec.to_builtins(evidence) if evidence else None})
        return
    used = f", {row['decided']} of {row['decisions']} decisions made" if row["decisions"] else ""
    print(row["claim"])
    print(
        f"  {row['state']}, ends {show.when(row['expires_us'])}{used}; lineage {row['lineage']} ({row['cause']})"
    )
    print(f"  audits since: {row['audit_k']} errors in {row['audit_n']}, log e-value {row['revoke_log_e']:.3f}")
    if evidence:
        missing = f"{evidence.counts.missing} of {evidence.counts.labels} labels missing"
        print(f"  attempt {evidence.attempt}, {len(evidence.grid)} thresholds tried, {missing}")


@group.command("verify")
def verify(number: Number, project: ProjectOption = None, json: JsonOption = False) -> None:
    """Compute a certificate again from the judged items; exit code 1 names the first difference.

    Example: `tenure certificate verify 3`
    """
    from tenure.cli.office import office
    from tenure.deploy.automation.verify import verify as again

    with office(project) as desk, desk.state.read() as conn:
        found = again(conn, number)
    if json:
        show.as_json(msgspec.to_builtins(found))
    elif found.match:
        since = f" and {found.audits} audits since" if found.audits is not None else ""
        print(f"certificate {number}: match, {found.labels} labels{since} counted again")
    else:
        print(f"certificate {number}: differs: {found.difference}")
    if not found.match:
        raise typer.Exit(1)
