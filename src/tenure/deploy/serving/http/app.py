"""The data plane over HTTP: an ASGI app in front of the core. It parses and replies; the core decides."""

from __future__ import annotations

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenure.clock import Clock
from tenure.deploy.serving.control_page import ControlPage, Slot
from tenure.deploy.serving.http import exposition, openapi
from tenure.deploy.serving.http.edge import Edge, headers_of, number_of, read_body, token_of
from tenure.deploy.serving.http.many import Many
from tenure.deploy.serving.http.many_in import holds_many
from tenure.deploy.serving.http.pictures_back import Pictures, Wish, wish_of
from tenure.deploy.serving.http.upload import read_input
from tenure.deploy.serving.http.wire import as_json, http_error
from tenure.deploy.serving.oip import rest as oip
from tenure.deploy.serving.oip.service import Service as Models
from tenure.deploy.serving.predict.core import Ask, Core
from tenure.deploy.serving.predict.desk import Desk
from tenure.deploy.serving.predict.tally import Tally
from tenure.errors import CaseError
from tenure.types import Answer

_FEEDBACK_BYTES = 64 * 1024


class _Feedback(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /v1/feedback: `truth`, or a named reaction `kind` with its `value`."""

    id: str
    truth: str | int | float | bool | msgspec.UnsetType | None = msgspec.UNSET
    kind: str = ""
    value: str | int | float | bool | None = None


_feedback = msgspec.json.Decoder(_Feedback)


def data_app(
    core: Core, *, page: ControlPage, slot: Slot, clock: Clock, tally: Tally | None = None,
    models: Models | None = None,
) -> Starlette:  # fmt: skip
    """Return the app of one worker.

    `tally` holds what its fast path has not counted on the page yet, `models` what it shares of the Open
    Inference Protocol.
    """
    models = models or Models(core, page=page, slot=slot, clock=clock)
    edge, doors = Edge(slot), _Doors(core, page=page, slot=slot, clock=clock, tally=tally)
    return Starlette(
        routes=[
            Route("/v1/{endpoint}/predict", edge.guarded(doors.predict), methods=["POST"]),
            Route("/predict", edge.guarded(doors.detect), methods=["POST"]),
            Route("/v1/decisions/{id}", edge.guarded(doors.decision), methods=["GET"]),
            Route("/v1/feedback", edge.guarded(doors.feedback), methods=["POST"]),
            Route("/internal/{endpoint}/preview", edge.guarded(doors.preview), methods=["POST"]),
            Route("/health/live", doors.alive, methods=["GET"]),
            Route("/health/ready", doors.ready, methods=["GET"]),
            Route("/metrics", doors.metrics, methods=["GET"]),
            Route("/openapi.json", doors.openapi, methods=["GET"]),
            *oip.routes(models, edge),
        ],
        exception_handlers={HTTPException: http_error},  # type: ignore[dict-item]
    )


class _Doors:
    def __init__(
        self, core: Core, *, page: ControlPage, slot: Slot, clock: Clock, tally: Tally | None
    ) -> None:  # fmt: skip
        self._core, self._page, self._slot, self._clock, self._tally = core, page, slot, clock, tally
        self._pictures, self._many = Pictures(), Many(core, slot, clock)

    async def predict(self, request: Request) -> Response:
        return await self._answer(request, request.path_params["endpoint"])

    async def detect(self, request: Request) -> Response:
        """Answer as a small server for object detection does: a form with a picture in, a drawn picture out."""
        return await self._answer(request, request.query_params.get("model", ""), picture_first=True)

    async def _answer(self, request: Request, endpoint: str, *, picture_first: bool = False) -> Response:
        start_ns = self._clock.monotonic_ns()
        self._slot.add("requests")
        desk = self._core.gate(token_of(headers_of(request)), endpoint)
        wish, ask = await _asked(request, desk, picture_first=picture_first)
        if holds_many(desk, ask):
            return await self._many.reply(desk, ask, unit_field=request.headers.get("tenure-unit-field"))
        self._pictures.admit(wish)
        answer = await self._core.predict(ask)
        self._slot.observe((self._clock.monotonic_ns() - start_ns) // 1000)
        self._slot.add("auto" if answer.status == "decided" else "pending")
        if wish.is_picture:
            return _located(await self._pictures.reply(answer, ask.body, wish, desk=desk), answer, request)
        return _located(as_json(answer, 200 if answer.status == "decided" else 202), answer, request)

    async def decision(self, request: Request) -> Response:
        wait = number_of(request.query_params.get("wait"), "wait")
        answer = await self._core.decision(token_of(headers_of(request)), request.path_params["id"], wait)
        return as_json(answer)  # 200 also while pending: the resource is the state of the request

    async def feedback(self, request: Request) -> Response:
        headers = headers_of(request)
        try:
            body = _feedback.decode(await read_body(request, headers, _FEEDBACK_BYTES))
        except msgspec.ValidationError as error:
            raise CaseError(str(error), code="invalid_body", at="body") from error
        except msgspec.DecodeError as error:
            raise CaseError(
                f"the body is not JSON: {error}", code="invalid_json", at="body", status=400
            ) from error
        token = token_of(headers)
        for name in ("truth", "value"):
            number = getattr(body, name)
            if isinstance(number, int) and not -(2**63) <= number < 2**64:
                raise CaseError(f"`{name}` is too large a number to be logged", code="invalid_number", at=name)
        if body.truth is not msgspec.UNSET:
            await self._core.feedback(token, body.id, "truth", body.truth)
        elif body.kind:
            await self._core.feedback(token, body.id, body.kind, body.value)
        else:
            raise CaseError("expected `truth`, or `kind` with a `value`", code="invalid_body", at="body")
        return Response(status_code=202)

    async def preview(self, request: Request) -> Response:
        """Answer the control plane what the stable version would say; see `Core.preview`."""
        headers = headers_of(request)
        desk = self._core.preview_desk(headers.get("tenure-preview", ""), request.path_params["endpoint"])
        body = await read_body(request, headers, desk.spec.serve.max_body)
        return as_json(await self._core.preview(desk, body, headers.get("content-type", "")))

    async def alive(self, request: Request) -> Response:
        return as_json({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        states = [slot.state for slot in self._page.slots()]
        ready = self._slot.state == "ready" and "ready" in states
        return as_json({"ready": ready, "workers": states}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        if self._tally is not None:
            self._tally.flush()
        return Response(
            exposition.render(self._page, now_ns=self._clock.now_ns()), media_type=exposition.MEDIA_TYPE
        )

    async def openapi(self, request: Request) -> Response:
        return Response(openapi.document(self._core.desks), media_type="application/json")


async def _asked(request: Request, desk: Desk, *, picture_first: bool) -> tuple[Wish, Ask]:
    """Return the request; what is wrong with it goes along, so that the core logs the refusal."""
    headers = headers_of(request)
    wish, endpoint, limit = Wish(), desk.name, desk.spec.serve.max_body
    token, unit, key = token_of(headers), headers.get("tenure-unit") or None, headers.get("idempotency-key")
    try:
        wish = wish_of(request, desk, picture_first=picture_first)
        body, media_type = await read_input(request, headers, limit)
        deadline_s = number_of(headers.get("tenure-deadline-ms"), "Tenure-Deadline-Ms") / 1000.0
        wait_s = number_of(request.query_params.get("wait"), "wait")
    except CaseError as error:
        return wish, Ask(endpoint=endpoint, body=b"", media_type="", token=token, unit=unit, key=key, fault=error)
    return wish, Ask(
        endpoint=endpoint, body=body, media_type=media_type, token=token, unit=unit, key=key,
        deadline_s=deadline_s, wait_s=wait_s,
    )  # fmt: skip


def _located(response: Response, answer: Answer, request: Request) -> Response:
    """Say where a pending decision will be."""
    if answer.status == "pending":
        response.headers["location"] = f"{request.scope.get('root_path', '')}/v1/decisions/{answer.id}"
    return response
