"""Simulated inspectors: they work through the review API as the page does, and err now and then.

An inspector looks at the picture that the server shows. The demo plays their eyes: it knows each photo that was
sent by its bytes, and says what is on it, except for the inspector's own mistakes.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tenure.demo.inspection.calls import UNREACHABLE, Caller
from tenure.demo.inspection.line import Catalogue
from tenure.demo.inspection.photos import Photo
from tenure.errors import TenureError
from tenure.seeds import draw

ERROR = 0.03
"""Chance that an inspector says the opposite of what is true, for each photo anew."""

AT_ONCE = 8
IDLE_S = 0.15


class Inspector:
    """One person at the review page; `wrong` counts their own mistakes."""

    def __init__(self, url: str, name: str, token: str, catalogue: Catalogue, *, seed: int) -> None:
        self.name = name
        self.judged = self.wrong = 0
        self.refused: Counter[str] = Counter()
        self._caller = Caller(url, token)
        self._catalogue = catalogue
        self._salt = f"{seed}:{name}"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"inspector-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the items in hand and go home."""
        self._stopping.set()
        self._thread.join(timeout=30.0)
        self._caller.close()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                busy = self.turn()
            except (*UNREACHABLE, TenureError) as error:
                self.refused[str(error)[:80]] += 1
                busy = False
            if not busy:
                self._stopping.wait(IDLE_S)

    def turn(self) -> bool:
        """Lease some items, look at each, hand the judgements in; returns whether there were any."""
        items = self._caller.post(f"/api/reviews/lease?n={AT_ONCE}", {})["items"]
        entries = [entry for item in items if (entry := self._judge(item)) is not None]
        if entries:
            answers = self._caller.post("/api/reviews/judgements", {"judgements": entries})["results"]
            self.refused.update(str(a["code"]) for a in answers if a.get("code"))
        return bool(items)

    def _judge(self, item: Mapping[str, Any]) -> dict[str, Any] | None:
        status, data = self._caller.raw("GET", f"/api/reviews/{item['item']}/media")
        photo = self._catalogue.find(data) if status == 200 else None
        if photo is None:
            self.refused[f"media {status}"] += 1
            return None
        value, boxes = self.opinion(photo, hashlib.sha256(data).hexdigest())
        self.judged += 1
        self.wrong += value != photo.label
        return {
            "item": item["item"],
            "token": item["token"],
            "value": value,
            "regions": boxes,
            "seconds": 2.0,
            "key": f"{self.name}-{item['token']}",
        }

    def opinion(self, photo: Photo, picture: str) -> tuple[str, list[dict[str, Any]]]:
        """Return what this inspector says about a picture: the same each time that they see it."""
        errs = draw(self._salt, picture) < ERROR
        value = photo.label if not errs else "good" if photo.label == "defect" else "defect"
        if value == "good":
            return value, []
        if errs:
            return value, [_imagined(draw(f"x{self._salt}", picture), draw(f"y{self._salt}", picture))]
        return value, [{"x1": b.x1, "y1": b.y1, "x2": b.x2, "y2": b.y2, "label": b.label} for b in photo.boxes]


def _imagined(across: float, down: float) -> dict[str, Any]:
    """Return the box that somebody draws around nothing."""
    x, y = 30 + 100 * across, 30 + 220 * down
    return {"x1": x, "y1": y, "x2": x + 24, "y2": y + 24, "label": "scratch"}
