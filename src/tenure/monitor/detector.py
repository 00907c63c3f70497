"""One board's reference and its running test: values in, values out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from tenure.monitor import profile as profiles
from tenure.monitor.profile import Ints, Profile
from tenure.stats import detector as stats
from tenure.stats.detector import Floats, Terms

Key = tuple[str, str]
"""(stage, metric)."""


class Watch(msgspec.Struct, frozen=True):
    """The reference of one metric and its bets: below and above each inner edge, unseen, missing.

    Attributes:
        stage, metric: what it is.
        edges: rising grid keys; see `profile.learn_edges`.
        share, rows, deff, bound, armed, delay, needed: one entry per bet; see `stats.detector.Bets`.
            `delay` and `needed` are -1 where they are infinite.
        mean, low, high: of the reference's values, in the metric's unit.
        note: "armed", or why not and what would help.
    """

    stage: str
    metric: str
    edges: tuple[int, ...]
    share: tuple[float, ...]
    rows: tuple[float, ...]
    deff: tuple[float, ...]
    bound: tuple[float, ...]
    armed: tuple[bool, ...]
    delay: tuple[float, ...]
    needed: tuple[float, ...]
    mean: float
    low: float
    high: float
    note: str

    def edge_array(self) -> Ints:
        return np.array(self.edges, dtype=np.int64)


class Running(msgspec.Struct, frozen=True):
    """A board between two panes; stored as JSON in `detectors`.

    Attributes:
        phase: learning until a bet is armed, then armed.
        version: the version whose outputs it watches; `*` for inputs.
        routing: newest routing table in which that version was seen as stable.
        since_us: first pane that may belong to the reference; 0 = not yet fixed.
        next_us: first pane that was not stepped.
        target: panes of the reference before the next attempt to arm.
        log_m: base64 of little-endian float64, (bets, 4); empty before it is armed.
        log_board, peak: log of the board's value now and its largest since the reset.
        panes: panes with data since the reset.
        threshold: A.
        latched: the alarm that must be acknowledged first.
        late: rows that came after their pane was closed; they are charted, not judged.
        note: armed, or what is missing.
        refused: why the last attempt to arm failed.
        terms: the settings that the promise rests on; other settings need a new reference.
    """

    phase: Literal["learning", "armed"] = "learning"
    version: str = "*"
    routing: int = 0
    since_us: int = 0
    next_us: int = 0
    target: int = 0
    log_m: str = ""
    log_board: float | None = None
    peak: float | None = None
    panes: int = 0
    threshold: float = 0.0
    latched: int | None = None
    late: int = 0
    note: str = "no data yet"
    refused: str = ""
    terms: str = ""


class Effect(msgspec.Struct, frozen=True):
    """How far a metric moved: the bet that moved most, and the mean in the metric's unit."""

    bet: str
    share_before: float
    share_now: float
    mean_before: float
    mean_now: float

    @property
    def moved(self) -> float:
        return self.share_now - self.share_before


def bet_names(edges: Sequence[int]) -> tuple[str, ...]:
    """Name the bets of a metric in the order of `hits`."""
    inner = [f"{profiles.value(e):.4g}" for e in edges[1:-1]]
    tails = (*(f"below {e}" for e in inner), *(f"at or above {e}" for e in inner))
    return (*tails, "unseen", "missing") if edges else ("missing",)


def hits(profile: Profile | None, edges: Ints) -> tuple[Floats, Floats]:
    """Return (rows in each bet's tail, rows that count for it); no rows where the pane cannot be read."""
    bets = 2 * max(len(edges) - 2, 0) + (2 if len(edges) else 1)
    dense = profile.dense(edges) if profile is not None and len(edges) else None
    k, n = np.zeros(bets), np.zeros(bets)
    if profile is None:
        return k, n
    k[-1], n[-1] = profile.missing, profile.rows
    if dense is not None:
        below = np.cumsum(dense)[1:-2]
        k[:-1] = np.concatenate([below, profile.n - below, [dense[0] + dense[-1]]])
        n[:-1] = profile.n
    return k, n


def learn(panes: Sequence[Mapping[Key, Profile]], terms: Terms) -> tuple[Watch, ...]:
    """Learn a board's reference from its panes; the bets' number replaces the one in `terms`.

    Args:
        panes: profiles on the grid, one mapping per pane with data.
        terms: the promise; `risk` is that of the whole board.
    """
    keys = sorted({key for pane in panes for key in pane})
    whole = {key: sum((p[key] for p in panes if key in p), Profile.empty()) for key in keys}
    edges = {key: profiles.learn_edges(whole[key]) for key in keys}
    counted = {key: [hits(pane.get(key), edges[key]) for pane in panes] for key in keys}
    bets = sum(len(rows[0][0]) for rows in counted.values())
    shared = Terms(
        terms.threshold, terms.risk / max(bets, 1), max(bets, 1), terms.delay_rows, terms.tolerance, terms.shift
    )  # fmt: skip
    return tuple(_watch(key, whole[key], edges[key], counted[key], shared) for key in keys)


def step(watches: Sequence[Watch], log_m: Floats, pane: Mapping[Key, Profile]) -> Floats:
    """Return the bets' values after one pane with data; metrics that it lacks hold theirs."""
    parts = [hits(pane.get((w.stage, w.metric)), w.edge_array()) for w in watches]
    k, n = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    evidence = stats.log_e(k, n, concat(watches, "bound"), concat(watches, "deff"))
    return stats.step(log_m, evidence, n > 0)


def first_evidence(watch: Watch, panes: Sequence[Profile]) -> int:
    """Return the pane from which on the evidence of a metric is largest: its change as the bets see it."""
    counted = [hits(pane, watch.edge_array()) for pane in panes]
    k, n = (np.array([part[i] for part in counted])[:, list(watch.armed)] for i in (0, 1))
    bound, deff = (np.array(getattr(watch, name))[list(watch.armed)] for name in ("bound", "deff"))
    if not k.size:
        return max(len(panes) - 1, 0)
    sums = np.cumsum(stats.log_e(k, n, bound, deff)[::-1], axis=0)[::-1]
    return int(sums.reshape(len(panes), -1).max(axis=1).argmax())


def concat(watches: Sequence[Watch], name: str) -> Floats:
    """Return one field of all bets of a board as an array."""
    return np.array([x for w in watches for x in getattr(w, name)], dtype=float)


def armed(watches: Sequence[Watch]) -> stats.Bools:
    """Return which bets of a board are armed."""
    return np.array([x for w in watches for x in w.armed], dtype=bool)


def convincing(watches: Sequence[Watch], log_m: Floats, threshold: float) -> list[Watch]:
    """Return the metrics that would alarm by their own bets, or the strongest when none would alone."""
    size = max(int(armed(watches).sum()) * len(stats.LAMBDAS), 1)
    own: list[tuple[float, Watch]] = []
    start = 0
    for w in watches:
        part = log_m[start : start + len(w.share)][list(w.armed)]
        start += len(w.share)
        own.append((float(part.max()) - np.log(size) if part.size else float("-inf"), w))
    enough = [w for value, w in own if value >= np.log(threshold)]
    return enough or [max(own, key=lambda pair: pair[0])[1]]


def effect(watch: Watch, live: Profile) -> Effect:
    """Say how far a metric moved from its reference, by the armed bet that moved most."""
    k, n = hits(live, watch.edge_array())
    now = np.divide(k, n, out=np.array(watch.share), where=n > 0)
    moved = np.where(watch.armed, now - np.array(watch.share), -np.inf)
    at = int(moved.argmax())
    return Effect(bet_names(watch.edges)[at], watch.share[at], float(now[at]), watch.mean, live.mean)


def pack(log_m: Floats) -> str:
    """Return the bets' values as text; JSON has no minus infinity."""
    return base64.b64encode(log_m.astype("<f8").tobytes()).decode()


def unpack(text: str) -> Floats:
    """Return what `pack` wrote, (bets, 4)."""
    return np.frombuffer(base64.b64decode(text), dtype="<f8").reshape(-1, len(stats.LAMBDAS)).copy()


def _watch(key: Key, whole: Profile, edges: Ints, counted: list[tuple[Floats, Floats]], terms: Terms) -> Watch:
    bets = stats.fit(np.array([k for k, _ in counted]), np.array([n for _, n in counted]), terms)
    return Watch(
        stage=key[0],
        metric=key[1],
        edges=tuple(int(e) for e in edges),
        share=_plain(bets.share),
        rows=_plain(bets.rows),
        deff=_plain(bets.deff),
        bound=_plain(bets.bound),
        armed=tuple(bool(x) for x in bets.armed),
        delay=_plain(bets.delay),
        needed=_plain(bets.needed),
        mean=whole.mean if whole.n else 0.0,
        low=whole.low if whole.n else 0.0,
        high=whole.high if whole.n else 0.0,
        note=_note(bets, len(counted), terms),
    )


def _plain(values: Floats) -> tuple[float, ...]:
    """Return plain numbers, -1 where a number is infinite."""
    return tuple(float(x) if np.isfinite(x) else -1.0 for x in values)


def _note(bets: stats.Bets, panes: int, terms: Terms) -> str:
    if panes < stats.MIN_PANES:
        return f"not armed: {panes} panes with data, {stats.MIN_PANES} are needed to see how rows hang together"
    if bets.armed.any():
        return f"armed: {int(bets.armed.sum())} of {len(bets.armed)} bets"
    least = float(bets.needed.min())
    if np.isfinite(least):
        return (
            f"not armed: {int(bets.rows.max())} reference rows cannot show a shift of {terms.shift:.0%} "
            f"of the rows within {terms.delay_rows:.0f} rows; {int(least)} reference rows would"
        )
    return (
        f"not armed: no reference shows a shift of {terms.shift:.0%} of the rows "
        f"within {terms.delay_rows:.0f} rows; "
        "raise `monitor.notice` or `monitor.false_alarms`, or send more traffic"
    )
