"""What a run writes to: it commits chunks whole, knows which are committed, and lets one run in at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tenure.deploy.offline.manifest import Manifest, Terms
from tenure.deploy.offline.rows import Answered, Rejected


class Sink(Protocol):
    """A folder of files, or a table. Use it as a context manager: that is the lock."""

    name: str

    def __enter__(self) -> Sink:
        """Lock the output; raises ConflictError (code `run_active`) while another run holds it."""
        ...

    def __exit__(self, *_: object) -> None: ...

    def open(self, terms: Terms, *, run: int, now_us: int, restart: bool) -> Manifest:
        """Return the run to go on with: the one that is there, or a new one numbered `run`.

        Raises:
            ConflictError: code `run_changed` (other terms) or `output_taken` (something else is there).
        """
        ...

    def commit(self, manifest: Manifest, answered: Sequence[Answered], rejected: Sequence[Rejected]) -> Manifest:
        """Store one chunk for good; when this returns, no crash undoes it and no resume repeats it."""
        ...

    def finish(self, manifest: Manifest, *, now_us: int) -> Manifest:
        """Mark the run as finished."""
        ...
