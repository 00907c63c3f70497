"""Cases for tests of the shadow report, one builder per kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tenure.deploy.shadow.cases import Case, Said
from tenure.types import Box, Value


def case(
    number: int, model: Value | Said, person: Value | Said, truth: Value | Said | None = None, *,
    unit: str = "", waiting: bool = False, readers: int = 1,
) -> Case:  # fmt: skip
    """A case; `differed` follows from the two answers."""
    m, p = _said(model), _said(person)
    t = None if truth is None else _said(truth)
    return Case(
        item=f"i{number}", number=number, unit=unit, model=m, person=p, truth=t, waiting=waiting,
        differed=m != p, readers=readers,
    )  # fmt: skip


def _said(x: Value | Said) -> Said:
    return x if isinstance(x, Said) else Said(x)


def judged(
    answers: Sequence[tuple[Value | Said, Value | Said, Value | Said]], *, agreements: float, seed: int = 0
) -> list[Case]:
    """Cases whose disagreements are all read again, and of the agreements a random share."""
    rng = np.random.default_rng(seed)
    again = rng.random(len(answers)) < agreements
    return [case(i, m, p, t if _said(m) != _said(p) or again[i] else None) for i, (m, p, t) in enumerate(answers)]


def classes(n: int, *, model: float, person: float, labels: Sequence[str], seed: int = 0) -> list[Case]:
    """Labels of which each judge misses a share by itself."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(
        len(labels), n, p=np.linspace(2.0, 1.0, len(labels)) / np.linspace(2.0, 1.0, len(labels)).sum()
    )
    said = [np.where(rng.random(n) < e, (truth + rng.integers(1, len(labels), n)) % len(labels), truth)
            for e in (model, person)]  # fmt: skip
    rows = [(labels[a], labels[b], labels[t]) for a, b, t in zip(*said, truth, strict=True)]
    return judged(rows, agreements=0.1, seed=seed)


def numbers(n: int, *, bias: float, noise: float, seed: int = 0) -> list[Case]:
    """Measurements around a truth between 10 and 50."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(10, 50, n)
    rows = [(float(t + bias + noise * a), float(t + noise * b), float(t))
            for t, a, b in zip(truth, rng.normal(size=n), rng.normal(size=n), strict=True)]  # fmt: skip
    return [case(i, *row, readers=2) for i, row in enumerate(rows)]


def picture(rng: np.random.Generator, boxes: Sequence[Box], *, lose: float, rename: float, extra: float) -> Said:
    """The boxes as somebody draws them who misses, misnames and invents some."""
    names = ("open", "short", "spur")
    kept = []
    for b in boxes:
        if rng.random() >= lose:
            label = str(rng.choice(names)) if rng.random() < rename else b.label
            dx, dy = rng.normal(0, 1.0, 2)
            kept.append(Box(b.x1 + dx, b.y1 + dy, b.x2 + dx, b.y2 + dy, label))
    if rng.random() < extra:
        x, y = rng.uniform(0, 280, 2)
        kept.append(Box(x, y, x + 25, y + 25, str(rng.choice(names))))
    return Said("defect" if kept else "good", tuple(kept))
