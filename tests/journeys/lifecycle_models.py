"""Models with a life of their own: heavy, slow to load, hanging, dying."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tenure.types import Prediction


@dataclasses.dataclass
class Heavy:
    """Holds 20 MB in arrays and as much in small objects; `number` makes versions differ."""

    number: int = 0

    def load(self, files: Path) -> None:
        self.weights: npt.NDArray[np.float64] = np.full(2_500_000, float(self.number))
        self.words = [f"word {self.number} {i}" for i in range(40_000)]
        self.itself = self  # a cycle, as frameworks make them

    def predict(self, rows: list[dict[str, Any]]) -> list[Prediction]:
        return [Prediction("big", 0.9) for _ in rows]


@dataclasses.dataclass
class SlowLoad:
    """Takes `seconds` to load: asleep, or busy in Python code that never gives the interpreter up by itself."""

    seconds: float = 1.0
    busy: bool = False

    def load(self, files: Path) -> None:
        if os.environ.get("LIFECYCLE_IN_A_HURRY"):  # when the version is registered
            return
        if not self.busy:
            time.sleep(self.seconds)
            return
        end, n = time.monotonic() + self.seconds, 0
        while time.monotonic() < end:
            n += 1

    def predict(self, rows: list[dict[str, Any]]) -> list[Prediction]:
        return [Prediction("small", 0.7) for _ in rows]


@dataclasses.dataclass
class Moody:
    """Answers; `a` of 55 takes a second, 66 hangs, 77 kills its process, 88 raises, 99 tells its process."""

    number: int = 0

    def predict(self, rows: list[dict[str, Any]]) -> list[Prediction]:
        values = [row["a"] for row in rows]
        if 55 in values:
            time.sleep(1)
        if 66 in values:
            time.sleep(600)
        if 77 in values:
            os.kill(os.getpid(), signal.SIGKILL)
        if 88 in values:
            raise ValueError("told to")
        return [Prediction("big" if v > 1 else "small", (os.getpid() % 1000) / 1000 if v == 99 else 0.9)
                for v in values]  # fmt: skip


@dataclasses.dataclass
class Meets:
    """Answers at once in process `pid`, in others only when `count` of them compute at the same time."""

    pid: int
    folder: str
    count: int

    def predict(self, rows: list[dict[str, Any]]) -> list[Prediction]:
        Path(self.folder, f"{os.getpid()}.here").touch()
        end = time.monotonic() + 60
        while os.getpid() != self.pid and len(list(Path(self.folder).glob("*.here"))) < self.count:
            assert time.monotonic() < end, "the others do not come"
            time.sleep(0.005)
        return [Prediction("big" if row["a"] > 1 else "small", 0.9) for row in rows]


@dataclasses.dataclass
class LoadsHereOnly:
    """Loads in one process and fails, or dies, in every other."""

    pid: int = 0
    dies: bool = False

    def load(self, files: Path) -> None:
        if os.getpid() == self.pid:
            return
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("no weights")

    def predict(self, rows: list[dict[str, Any]]) -> list[Prediction]:
        return [Prediction("big", 0.9) for _ in rows]
