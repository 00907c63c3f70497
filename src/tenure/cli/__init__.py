"""The command line."""


def main() -> None:
    """Run the `tenure` command."""
    raise SystemExit("not built yet")
