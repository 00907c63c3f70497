"""How long a batch of n takes: learnt from the batches that ran, with the tail that a promise needs."""

from __future__ import annotations

import math

FORGET = 0.98
"""Weight of a batch once the next one is seen: about the last 50 batches count."""

WARM = 30
"""Batches before the learnt latency is believed."""

QUANTILE = 0.99
_STEP = 0.02


class Pace:
    """The latency of batches: `a * n + b` by recursive least squares with forgetting, plus a tail.

    The tail is the 99 % quantile of what the line does not explain, tracked by stochastic approximation
    (Robbins and Monro, 1951) in steps that follow the spread. Until `WARM` batches have run, the batch size
    probes instead: it doubles after each batch that met its budget and halves after one that did not.
    """

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.batches = 0
        self._probe = 4
        # Sums of the weighted normal equations.
        self._w = self._n = self._nn = self._y = self._ny = 0.0
        self._tail = 0.0
        self._spread = 0.0

    def expected_us(self, n: int) -> float:
        """Return the mean time of a batch of n."""
        per_item, fixed = self.line()
        return max(0.0, fixed + per_item * n)

    def high_us(self, n: int) -> float:
        """Return the time that 99 of 100 batches of n stay within."""
        return self.expected_us(n) + self._tail

    def line(self) -> tuple[float, float]:
        """Return (microseconds per item, microseconds per batch), neither negative."""
        if self._w == 0.0:
            return 1000.0, 0.0
        mean_n, mean_y = self._n / self._w, self._y / self._w
        variance = self._nn / self._w - mean_n * mean_n
        if variance < 1e-9 * max(1.0, mean_n * mean_n):  # every batch had one size
            return mean_y / mean_n, 0.0
        slope = (self._ny / self._w - mean_n * mean_y) / variance
        slope = min(max(slope, 0.0), mean_y / mean_n)  # neither part of the cost is negative
        return slope, mean_y - slope * mean_n

    def size(self, waiting: int, budget_us: float) -> int:
        """Return how many of the waiting to take so that the batch ends within the budget; at least one."""
        most = min(waiting, self.largest)
        if most <= 1 or math.isinf(budget_us):
            return max(1, most)
        if self.batches < WARM:
            return max(1, min(most, self._probe))
        per_item, fixed = self.line()
        left = budget_us - fixed - self._tail
        if per_item <= 0.0:
            return most if left > 0 else 1
        return max(1, min(most, int(left / per_item)))

    def queue_us(self, waiting: int) -> float:
        """Return how long the waiting work takes, in batches as large as they may be."""
        if not waiting:
            return 0.0
        per_item, fixed = self.line()
        return waiting * per_item + math.ceil(waiting / self.largest) * fixed

    def learn(self, n: int, spent_us: float, *, met: bool = True) -> None:
        """Take a batch in: its size, its time, and whether its budget was met."""
        error = spent_us - self.expected_us(n)
        self._w = self._w * FORGET + 1
        self._n = self._n * FORGET + n
        self._nn = self._nn * FORGET + n * n
        self._y = self._y * FORGET + spent_us
        self._ny = self._ny * FORGET + n * spent_us
        self.batches += 1
        self._probe = min(self.largest, self._probe * 2) if met else max(1, self._probe // 2)
        if self.batches == 1:
            return
        self._spread += _STEP * 2 * (abs(error) - self._spread)
        up = QUANTILE if error > self._tail else QUANTILE - 1
        self._tail = max(0.0, self._tail + up * max(self._spread, 1.0))
