"""Print how fast the review queue gives and takes with many reviewers at once, however long it is.

python benchmarks/review.py [--items 2000] [--queued 0] [--reviewers 20] [--think 0] [--apart] [--state URL]

Reviewers are threads with one queue, as in the console's process; `--apart` gives each a process of its own.
Each asks for one, takes `--think` seconds, and judges, until `--items` are judged; `--queued` more wait behind.
Without `--state` an SQLite file is made and removed; a PostgreSQL database must be empty and is left filled.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles

from tenure.clock import SystemClock
from tenure.data.state import State
from tenure.deploy.review.items import NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.scope.project import EndpointSpec, Output, Review, SecondReader

_clock = time.perf_counter
SPEC = EndpointSpec(
    input="image",
    output=Output(labels=("good", "defect")),
    review=Review(second_reader=SecondReader(disagreements=0.0, agreements=0.0)),
)
Times = tuple[list[float], list[float]]


def open_queue(url: str) -> ReviewQueue:
    return ReviewQueue(State.open(url, SystemClock()), {"parts": SPEC})


def fill(url: str, n: int) -> None:
    state = State.open(url, SystemClock())
    queue, now = ReviewQueue(state, {"parts": SPEC}), state.now_us()
    for start in range(0, n, 1000):
        items = [
            NewItem(id=f"i{k:07}", endpoint="parts", kind="uncertain", media_type="image/png", created_us=now + k)
            for k in range(start, min(start + 1000, n))
        ]
        with state.begin() as conn:
            queue.add(conn, items)
    state.close()


def work(queue: ReviewQueue | str, name: str, share: int, think: float) -> Times:
    """Judge `share` items; returns the seconds of each asking and of each judgement."""
    queue = open_queue(queue) if isinstance(queue, str) else queue
    asked, judged = [], []
    for _ in range(share):
        began = _clock()
        (lease,) = queue.lease(name)
        asked.append(_clock() - began)
        time.sleep(think)
        began = _clock()
        queue.submit(lease.item, reader=name, token=lease.token, value="good", key=lease.token)
        judged.append(_clock() - began)
    return asked, judged


def run(url: str, args: argparse.Namespace) -> tuple[float, Times]:
    """Let everybody work; returns the seconds it took and everybody's times."""
    share = args.items // args.reviewers
    context = multiprocessing.get_context("forkserver")
    pool: Executor = (
        ProcessPoolExecutor(args.reviewers, mp_context=context)
        if args.apart
        else ThreadPoolExecutor(args.reviewers)
    )
    queue = url if args.apart else open_queue(url)
    began = _clock()
    with pool:
        jobs = [pool.submit(work, queue, f"r{k}", share, args.think) for k in range(args.reviewers)]
        found = [job.result() for job in jobs]
    took = _clock() - began
    return took, ([t for one in found for t in one[0]], [t for one in found for t in one[1]])


def show(what: str, times: list[float]) -> None:
    cuts = quantiles(times, n=100)
    print(
        f"{what:8} p50 {cuts[49] * 1e3:7.1f} ms   p99 {cuts[98] * 1e3:7.1f} ms   most {max(times) * 1e3:7.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--queued", type=int, default=0)
    parser.add_argument("--reviewers", type=int, default=20)
    parser.add_argument("--think", type=float, default=0.0)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--state")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = args.state or f"sqlite:///{Path(folder) / 'state.db'}"
        fill(url, args.items + args.queued)
        took, (asked, judged) = run(url, args)
    print(f"{len(judged)} items in {took:.1f} s: {len(judged) / took:.0f} per second, {args.reviewers} reviewers")
    show("asking", asked)
    show("judging", judged)


if __name__ == "__main__":
    main()
