"""The processes of the kill test: a writer that acknowledges through a pipe, and a keeper with its own database.

python log_kill_parts.py writer FOLDER NAME RUN
python log_kill_parts.py keeper FOLDER [drain]
"""

from __future__ import annotations

import sqlite3
import sys
import time
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "unit" / "data"))

from log_rows import OTHERS, PREDICTIONS, frame_of, writer_of

from tenure.clock import SystemClock
from tenure.data.records import Kind


def write(folder: Path, name: str, run: int) -> None:
    """Append for ever; print the seqs of each frame once `append` has returned."""
    records = writer_of(folder, run, SystemClock(), name=name, segment_bytes=30_000)
    payloads = writer_of(folder, run, SystemClock(), name=f"{name}.payload", segment_bytes=20_000)
    seq = 0
    for turn in count():
        seqs = list(range(seq, seq + 1 + turn % 5))
        seq = seqs[-1] + 1
        payloads.append(frame_of(OTHERS[Kind.PAYLOAD], seqs, run=run))
        records.append(frame_of(PREDICTIONS, seqs, run=run))
        print(*seqs, flush=True)
        if turn % 7 == 0:
            records.append(frame_of(OTHERS[Kind.DECISION], seqs, run=run))
        time.sleep(0.001)  # load, not haste: the judge has to keep up


def keep(folder: Path, *, drain: bool) -> None:
    """Tail, store rows and positions in one transaction, seal, merge; until killed, or until nothing is left."""
    from tenure.data.keeper import Keeper

    db = sqlite3.connect(folder / "seen.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=OFF")
    db.execute("CREATE TABLE IF NOT EXISTS seen (run TEXT, seq INT)")
    db.execute("CREATE TABLE IF NOT EXISTS positions (segment TEXT PRIMARY KEY, offset INT)")
    keeper = Keeper(folder, SystemClock())
    keeper.restore(dict(db.execute("SELECT segment, offset FROM positions")))
    print("up", flush=True)
    for turn in count():
        reads = keeper.poll(1 << 18)
        rows = [
            (str(r.frame.run), seq)
            for r in reads
            if r.frame.kind == Kind.PREDICTION
            for seq in r.frame.columns()["seq"].tolist()
        ]
        db.execute("BEGIN")
        db.executemany("INSERT INTO seen VALUES (?, ?)", rows)
        db.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?)", keeper.positions().items())
        db.execute("COMMIT")
        keeper.seal_due(keeper.positions())
        if turn % 5 == 0:
            keeper.compact()
        if drain and not reads and not keeper.positions():
            assert keeper.faults == 0, keeper.take_faults()
            return
        if not reads and not drain:
            time.sleep(0.01)


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    if what == "writer":
        write(Path(where), rest[0], int(rest[1]))
    else:
        keep(Path(where), drain=bool(rest))
