"""The production line: photographs phones at a fixed rate, posts the photos, and acts on the decisions."""

from __future__ import annotations

import hashlib
import heapq
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tenure.clock import Clock
from tenure.demo.inspection.calls import UNREACHABLE, Caller, multipart
from tenure.demo.inspection.photos import Photo
from tenure.errors import TenureError

POSTERS, POLLERS = 16, 4
POLL_S, PATIENCE = 1.5, 0.5
"""A pending decision is asked for after so long, and again after this part of its age: people take their time."""

GIVE_UP_S = 60.0
"""After this the project's own fallback must have decided; a request still open then is counted as lost."""


@dataclass(slots=True)
class Request:
    """One photo on the line and what became of it; times are monotonic seconds since the line began."""

    number: int
    truth: str
    light: float
    sent_s: float
    id: str | None = None
    status: int = 0
    value: Any = None
    by: str | None = None
    version: str | None = None
    decided_s: float | None = None

    @property
    def answered(self) -> bool:
        return self.status in (200, 202)


@dataclass
class Catalogue:
    """What is true about each photo that was sent, by its bytes. Only the demo's own people may look here."""

    _known: dict[bytes, Photo] = field(default_factory=dict)

    def add(self, photo: Photo) -> None:
        """Remember a photo without its bytes."""
        known = Photo(b"", photo.label, photo.boxes, photo.light)
        self._known[hashlib.sha256(photo.data).digest()] = known

    def find(self, data: bytes) -> Photo | None:
        """Return the truth about these bytes, None for a photo that never was on the line."""
        return self._known.get(hashlib.sha256(data).digest())


class Line:
    """Posts photos in open loop: a slow answer does not slow the next photo down.

    Args:
        url: of the data plane.
        token: of a client.
        photo: number -> the photo of that phone in the light of now, or None while there is none.
        rate: photos per second.
        clock: the time.
    """

    def __init__(
        self,
        url: str,
        token: str,
        photo: Callable[[int], Photo | None],
        *,
        rate: float,
        clock: Clock,
        path: str = "/v1/phones/predict",
    ) -> None:
        self._url, self._token, self._photo, self._path = url, token, photo, path
        self.rate, self._clock = rate, clock
        self.catalogue = Catalogue()
        self.requests: list[Request] = []
        self.faults: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._start_ns = clock.monotonic_ns()
        self._due: list[tuple[float, int, Request]] = []
        self._undecided = 0
        self._waiting = threading.Condition()
        self._next = 0
        self._begin_s: float | None = None
        self._empty = threading.Event()
        self._stopping = threading.Event()
        self._closing = threading.Event()
        self._posters = [threading.Thread(target=self._post_all, daemon=True) for _ in range(POSTERS)]
        self._pollers = [threading.Thread(target=self._poll_all, daemon=True) for _ in range(POLLERS)]

    # Running

    def start(self) -> None:
        for thread in (*self._posters, *self._pollers):
            thread.start()

    def stop(self, *, patience_s: float = 40.0) -> None:
        """Stop posting, wait for the decisions that are still open, and end."""
        self._stopping.set()
        for thread in self._posters:
            thread.join(timeout=patience_s)
        until = self.now_s() + patience_s
        while self.open() and self.now_s() < until:
            self._closing.wait(0.1)
        self._closing.set()
        with self._waiting:
            self._waiting.notify_all()
        for thread in self._pollers:
            thread.join(timeout=5.0)

    def now_s(self) -> float:
        """Return seconds since the line was made."""
        return (self._clock.monotonic_ns() - self._start_ns) / 1e9

    @property
    def is_empty(self) -> bool:
        """Whether there are no photos to take now."""
        return self._empty.is_set()

    def count(self) -> int:
        """Return how many photos were sent; also a mark for `since`."""
        return len(self.requests)

    def since(self, mark: int, until: int | None = None) -> list[Request]:
        """Return the requests from one mark to another."""
        return self.requests[mark:until]

    def open(self) -> int:
        """Return how many answered requests have no decision yet."""
        with self._waiting:
            return self._undecided

    # Posting

    def _post_all(self) -> None:
        caller = Caller(self._url, self._token)
        while not self._stopping.is_set():
            number, due_s = self._take()
            photo = self._photo(number)
            if photo is None:
                self._empty.set()
                self._stopping.wait(0.2)
                continue
            self._empty.clear()
            self.catalogue.add(photo)
            if self._stopping.wait(max(0.0, due_s - self.now_s())):
                break
            self._post(caller, number, photo)
        caller.close()

    def _take(self) -> tuple[int, float]:
        """Return the next number and when it is due; a line that fell far behind does not catch up."""
        with self._lock:
            number, now = self._next, self.now_s()
            self._next += 1
            if self._begin_s is None or self._begin_s < now - 1.0:
                self._begin_s = now
            self._begin_s += 1.0 / self.rate
            return number, self._begin_s

    def _post(self, caller: Caller, number: int, photo: Photo) -> None:
        request = Request(number, photo.label, photo.light, self.now_s())
        with self._lock:
            self.requests.append(request)
        body, headers = multipart(photo.data, "image/jpeg")
        try:
            request.status, data = caller.raw("POST", self._path, body, headers)
            answer = json.loads(data)
        except (*UNREACHABLE, ValueError) as error:
            self.faults[type(error).__name__] += 1
            return
        if not request.answered:
            self.faults[f"{request.status} {answer.get('code')}"] += 1
            return
        request.id = answer["id"]
        if answer["status"] == "decided":
            self._decided(request, answer["decision"])
        else:
            self._wait_for(request)

    # Decisions

    def _wait_for(self, request: Request) -> None:
        with self._waiting:
            self._undecided += 1
            heapq.heappush(self._due, (self.now_s() + POLL_S, request.number, request))
            self._waiting.notify()

    def _poll_all(self) -> None:
        caller = Caller(self._url, self._token)
        while (request := self._next_due()) is not None:
            try:
                answer = caller.get(f"/v1/decisions/{request.id}")
            except (*UNREACHABLE, TenureError) as error:
                self.faults[f"poll {type(error).__name__}"] += 1
                answer = {"status": "pending"}
            with self._waiting:
                if answer["status"] == "decided":
                    self._decided(request, answer["decision"])
                    self._undecided -= 1
                elif (age_s := self.now_s() - request.sent_s) < GIVE_UP_S:
                    again_s = self.now_s() + max(POLL_S, PATIENCE * age_s)
                    heapq.heappush(self._due, (again_s, request.number, request))
                else:
                    self.faults["no decision"] += 1
                    self._undecided -= 1
        caller.close()

    def _next_due(self) -> Request | None:
        """Wait for the next request that is to be asked about; None at the end."""
        with self._waiting:
            while not self._closing.is_set():
                left = self._due[0][0] - self.now_s() if self._due else 1.0
                if left <= 0:
                    return heapq.heappop(self._due)[2]
                self._waiting.wait(left)
        return None

    def _decided(self, request: Request, decision: dict[str, Any]) -> None:
        request.value, request.by = decision["value"], decision["by"]
        request.version = decision.get("version")
        request.decided_s = self.now_s()
