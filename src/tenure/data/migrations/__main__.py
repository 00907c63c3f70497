"""Write a revision from what `tables.py` says now: `python -m tenure.data.migrations 0001 "Initial schema"`.

The revision is compared with the ones before it; a file of the same number is replaced. A number that was
released is never written again: take the next one.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from alembic import command

from tenure.data import state_schema as schema
from tenure.data.state import engine_of


def main() -> None:
    """Write the revision and format it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("number", help="four digits")
    parser.add_argument("message", help="what it changes, such as 'Add a column for ...'")
    wanted = parser.parse_args()
    if not re.fullmatch(r"\d{4}", wanted.number):
        parser.error("the number has four digits")
    write(wanted.number, wanted.message)


def write(number: str, message: str) -> None:
    """Replace or add `versions/<number>_*.py`."""
    for old in (schema.FOLDER / "versions").glob(f"{number}_*.py"):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        engine = engine_of(f"sqlite:///{Path(folder, 'state.db')}")
        with engine.begin() as conn:
            settings = schema.config(conn)
            settings.set_main_option("file_template", "%%(rev)s_%%(slug)s")
            if list((schema.FOLDER / "versions").glob("[0-9]*.py")):
                command.upgrade(settings, "head")
            made = command.revision(settings, message=message, rev_id=number, autogenerate=True)
        engine.dispose()
    path = Path(getattr(made, "path", ""))
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "# ###" not in line))
    for action in (["format", "--quiet"], ["check", "--fix", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *action, str(path)], check=True)
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
