"""score: answer whole files and tables, exactly once and in the log."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tenure.cli import show
from tenure.cli.options import JsonOption, ProjectOption


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("score")(score)


def score(
    endpoint: Annotated[str, typer.Argument(help="Its name in the project file.")],
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="[INPUT] OUTPUT",
            help="INPUT: a file, folder or 'glob' of Parquet, CSV or JSON lines; left out with --sql. OUTPUT: a "
            "folder, or a table such as 'postgresql://host/db?table=scores' or 'sqlite:///x.db?table=scores'.",
        ),
    ],
    sql: Annotated[str | None, typer.Option(help="One SELECT instead of INPUT.", show_default=False)] = None,
    url: Annotated[
        str | None,
        typer.Option("--from", help="Where it runs: sqlite:///file or postgresql://…", show_default=False),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Unique column of the query that puts its rows in order.", show_default=False),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Default: the version in force.", show_default=False)
    ] = None,
    form: Annotated[
        Literal["parquet", "csv", "jsonl"], typer.Option("--format", help="Of the files.")
    ] = "parquet",
    keep: Annotated[
        list[str] | None, typer.Option(help="Input column to copy to the output; once for each.")
    ] = None,
    predict_only: Annotated[bool, typer.Option("--predict-only", help="Predict; nobody decides.")] = False,
    no_review: Annotated[
        bool, typer.Option("--no-review", help="Leave undecided rows out of the review queue.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Rows to read.", show_default=False)] = None,
    chunk_rows: Annotated[int, typer.Option(min=1, help="Rows that are committed at a time.")] = 10_000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that score.")] = 1,
    deadline: Annotated[
        str | None,
        typer.Option(help="Local time such as 06:00: say early when it will be missed.", show_default=False),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Throw an earlier run away.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, score one chunk, write nothing.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Score every row of files or a query with an endpoint's version.

    Rows are checked and decided by the rules of the online path, at the endpoint's level. Each row of the input
    is one row of the output, under its number, or one line in `quarantine/` that says why it failed. Rows are in
    the prediction log, so that drift of a nightly batch is seen; they are no evidence in a rollout.

    Chunks are committed whole. Killed at any moment, the same command goes on: no row is lost or doubled. It
    refuses when the input, the version or an option changed; `--restart` starts over. A finished run says so.

    From level `assist` on, rows that the model may not decide wait for people in the review queue. Below it,
    and with `--predict-only`, nobody decides.

    Examples:
    - `tenure score readmission encounters.parquet scored/ --keep encounter_id --deadline 06:00`
    - `tenure score churn 'days/*.csv' scored/ --dry-run`
    - `tenure score churn 'postgresql://db/shop?table=scores' --sql "SELECT * FROM customers" \
--from postgresql://db/shop --key id`
    """
    from tenure.cli import score_progress
    from tenure.cli.office import office
    from tenure.cli.scoring import Told
    from tenure.cli.scoring import score as run
    from tenure.errors import CaseError

    if len(places) != (1 if sql is not None else 2):
        raise CaseError("expected ENDPOINT INPUT OUTPUT, or ENDPOINT OUTPUT with --sql", at="input")
    told = Told(
        endpoint=endpoint, input=places[0] if sql is None else None, output=places[-1], sql=sql, url=url, key=key,
        version=version, format=form, chunk=chunk_rows, limit=limit, keep=tuple(keep or ()),
        predict_only=predict_only, review=not no_review, workers=workers, restart=restart, dry_run=dry_run,
        deadline=deadline,
    )  # fmt: skip
    with office(project) as desk:
        try:
            with score_progress.shown(desk.state.clock, quiet=quiet) as report:
                done = run(desk, told, report)
        except KeyboardInterrupt:
            print("stopped; the same command goes on where it was")
            raise typer.Exit(130) from None
    if json:
        show.as_json(score_progress.as_dict(done))
    else:
        print(score_progress.summary(done))
