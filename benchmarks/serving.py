"""Compare our server with a hand-written app and with other model servers, in turns, in one run.

    python benchmarks/serving.py                                  base, ours, nginx; everything but the long parts
    python benchmarks/serving.py --only record --contenders ours  one part, one contender
    python benchmarks/serving.py --peers                          installs the other servers; they take part too
    python benchmarks/serving.py --peers litserve mlserver        two of them
    python benchmarks/serving.py --only soak swaps --soak 10      memory at full load and over 100 version swaps

Every server is started here, on loopback, on a free port, and ended here. Only two run at a time: a contender and
its reference. They take turns, the reference first, and the result is the ratio of neighbouring turns: the median
with the least and the greatest. So other work on the machine makes all figures worse, but hardly moves a ratio.
Read also the CPU time per answer, of all processes of a server together.

Closed loops are driven by `wrk` where it is installed (Debian: apt-get install wrk), because a generator in
Python would be the limit of a fast server, and of no other; open loops, and the answers that are compared, by
`load.py`.

Parts:
  record    one record of 30 numbers, 100 boosted trees in ONNX: closed loop at 1, 16, 64 connections; open loop
            (Poisson arrivals, latency from when a request was due) at 200 and 1,000 a second; against the base
  photo     a JPEG of 480 x 480 pixels, 30 KB, into a small convolutional network; raw and as a form; all of a
            server on one core, the load generator on another; against the base; ours decodes at the least size
            that has 128 pixels, ours-all-pixels all of them as the others do
  oip       Open Inference Protocol with binary tensors, 1, 32 and 256 rows; against ONNX Runtime in a bare loop
  variants  ours with a canary and a full shadow, with a log that reaches the disk, with the model in a thread,
            with 2 workers; against plain ours
  soak      memory of our worker and controller at full load, for --soak minutes
  swaps     memory of our worker while versions are swapped under load, --swaps times

Ours runs with all it has: log before the reply, routing, audit draws, metrics, profiles, controller. The base
only answers. Before a cell is measured its server answers all inputs rightly; in each turn a sample of answers
is compared with the model's own; a wrong or failed answer voids the turn. Before each turn the server of the turn
before is let finish, so that its work is not on the next one's account.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from serving_bench import peers, report  # noqa: E402
from serving_bench.bench import LONG, PARTS, Bench  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=PARTS + LONG, default=PARTS, metavar="PART", help="parts to run"
    )
    parser.add_argument(
        "--contenders", nargs="+", metavar="NAME", help="by name, such as ours, nginx, ours-canary; default: all"
    )
    parser.add_argument(
        "--peers", nargs="*", choices=tuple(peers.PINS), metavar="NAME",
        help=f"install and include other servers, all without a name: {', '.join(peers.PINS)}",
    )  # fmt: skip
    parser.add_argument(
        "--cache", type=Path, default=peers.default_cache(), help="folder of the peers' environments"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn (default 2)")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before them that do not count")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of turns of each cell (default 3)")
    parser.add_argument("--soak", type=float, default=10.0, metavar="MINUTES", help="length of the part soak")
    parser.add_argument("--swaps", type=int, default=100, metavar="TIMES", help="version swaps of the part swaps")
    parser.add_argument("--out", type=Path, default=HERE.parent / "out" / "serving.json")
    told = parser.parse_args()
    told.peers = [] if told.peers is None else told.peers or list(peers.PINS)
    return told


def main() -> None:
    told, start = arguments(), time.perf_counter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all servers are ended then, too
    with tempfile.TemporaryDirectory(prefix="bench-models-") as folder:
        bench = Bench(told, Path(folder))
        bench.install()
        bench.run()
        print(f"\n== all results; the last three columns are ratios\n{report.table(bench.report)}")
        print("\n== targets")
        for target in report.targets(bench.report):
            print(target)
        minutes = (time.perf_counter() - start) / 60
        load, cores = os.getloadavg()[0], os.cpu_count()
        print(f"\nsaved {told.out}; {minutes:.0f} minutes; load average {load:.1f} on {cores} cores")


if __name__ == "__main__":
    main()
