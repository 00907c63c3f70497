"""Answer a picture with the picture: its boxes, labels and confidences drawn on it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tenure.deploy.serving.http.accept import preferred
from tenure.deploy.serving.http.drawing import annotated
from tenure.deploy.serving.http.edge import number_of
from tenure.deploy.serving.http.many_in import form_of
from tenure.deploy.serving.predict.desk import Desk
from tenure.errors import BusyError, CaseError
from tenure.types import Answer, Box

JSON = "application/json"
FORMS = ("image/jpeg", "image/png")
MAX_WAITING = 32
"""Pictures that may wait to be drawn; the next is refused before it is answered, so that memory stays bounded."""


class Wish(msgspec.Struct, frozen=True):
    """How an answer is wanted: as JSON, or drawn with the boxes from a confidence upward."""

    media_type: str = JSON
    confidence: float = 0.0

    @property
    def is_picture(self) -> bool:
        return self.media_type in FORMS


def wish_of(request: Request, desk: Desk, *, picture_first: bool = False) -> Wish:
    """Return what the headers and the query ask for.

    Args:
        request: its header `Accept` decides; absent or `*/*` it means JSON.
        desk: pictures come from endpoints whose answers carry boxes.
        picture_first: `*/*` means a picture where the endpoint has them.

    Raises:
        CaseError: 406 `not_acceptable`, naming what there is; 400 for a confidence outside [0, 1].
    """
    many = form_of(request.headers.get("content-type", ""))  # rows are answered in the form in which they came
    forms = FORMS if desk.spec.input == "image" and desk.output.regions else ()
    offers = (many,) if many else (*forms, JSON) if picture_first else (JSON, *forms)
    media_type = preferred(", ".join(request.headers.getlist("accept")), offers)
    if media_type is None:
        raise CaseError(
            f"{desk.name} answers in {' or '.join(offers)} only", code="not_acceptable", at="accept", status=406
        )
    return Wish(media_type, _confidence(request))


class Pictures:
    """Draws answers in a thread of its own, beside the event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="draw")
        self._waiting = 0

    def admit(self, wish: Wish) -> None:
        """Refuse a picture while too many wait; raises BusyError."""
        if wish.is_picture and self._waiting >= MAX_WAITING:
            raise BusyError(f"{self._waiting} pictures wait to be drawn already; try again, or ask for JSON")

    async def reply(self, answer: Answer, body: bytes, wish: Wish, *, desk: Desk) -> Response:
        """Return the input with what was decided drawn on it.

        A pending answer gives the plain picture: what its reviewer may not see is not shown to anybody.
        """
        boxes = shown_boxes(answer, wish.confidence)
        loop = asyncio.get_running_loop()
        self._waiting += 1
        try:
            drawn = await loop.run_in_executor(
                self._pool, lambda: annotated(body, boxes, wish.media_type, labels=desk.output.labels)
            )
        finally:
            self._waiting -= 1
        return Response(
            drawn,
            status_code=200 if answer.status == "decided" else 202,
            headers={"tenure-id": answer.id, "tenure-status": answer.status, "vary": "Accept"},
            media_type=wish.media_type,
        )


def shown_boxes(answer: Answer, confidence: float) -> Sequence[Box]:
    """Return the boxes of the decision that are at least so sure; none while it is pending."""
    if answer.status != "decided" or answer.decision is None:
        return ()
    return [b for b in answer.decision.regions if b.confidence is None or b.confidence >= confidence]


def _confidence(request: Request) -> float:
    value = number_of(request.query_params.get("confidence"), "confidence")
    if value > 1:
        raise CaseError(
            f"confidence: expected a number between 0 and 1, got {value:g}",
            code="invalid_number", at="confidence", status=400,
        )  # fmt: skip
    return value
