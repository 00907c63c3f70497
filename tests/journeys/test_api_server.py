"""The Python API with real processes: register, serve, ask; and the same data plane inside another app."""

from __future__ import annotations

import io
from pathlib import Path

import api_journey_stages
import pytest
from fastapi import FastAPI
from PIL import Image as Pillow
from starlette.testclient import TestClient

import tenure
from tenure.cli import main as command
from tenure.cli.office import office
from tenure.errors import AccessError, CaseError, ConflictError, MissingError


def photo(level: int) -> bytes:
    out = io.BytesIO()
    Pillow.new("L", (32, 24), level).save(out, "png")
    return out.getvalue()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tenure.register("phones", api_journey_stages.Inspector, sample=photo(120), labels=["good", "defect"])
    return tmp_path


def test_a_model_is_registered_served_and_asked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tenure.serve("phones", automation="assist") as server:
        answer = tenure.ask(server.url, "phones", photo(20), unit="line 1", key="a")
        assert (answer.status, answer.decision) == ("pending", None)
        again = tenure.ask(server.url, "phones", photo(20), unit="line 1", key="a")
        assert (again.id, again.status) == (answer.id, "pending")
        with pytest.raises(ConflictError) as other_body:
            tenure.ask(server.url, "phones", photo(21), key="a")
        assert other_body.value.code == "idempotency_mismatch"
        with pytest.raises(MissingError, match="there is: phones"):
            tenure.ask(server.url, "laptops", photo(20))
        with pytest.raises(CaseError) as wrong_kind:
            tenure.ask(server.url, "phones", "a text")
        assert (wrong_kind.value.status, wrong_kind.value.code) == (415, "unsupported_media_type")
        with pytest.raises(CaseError) as unreadable:
            tenure.ask(server.url, "phones", b"\x89PNG\r\n\x1a\nbroken")
        assert (unreadable.value.status, unreadable.value.code) == (422, "unreadable_image")

        shown = [tenure.ask(server.url, "phones", photo(20)).prediction for _ in range(30)]
        seen = [p for p in shown if p is not None]  # blind items show nothing
        assert {p.value for p in seen} == {"defect"}
        assert seen[0].regions == (tenure.Box(1, 2, 3, 4, "dark"),)

        with pytest.raises(ConflictError, match="a server already runs"):
            tenure.serve("phones")
        with pytest.raises(SystemExit):
            command(["rollback", "--offline"])  # a controller is alive
    assert "the controller is alive" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command(["log", "SELECT status, count(*) AS n FROM predictions GROUP BY 1 ORDER BY 1", "--format", "csv"])
    assert capsys.readouterr().out == "status,n\nok,31\nrefused,2\n"


def test_the_data_plane_runs_inside_another_app(here: Path) -> None:
    inner = tenure.asgi("tenure-data", open_loopback=True)
    outer = FastAPI(lifespan=inner.lifespan)
    outer.mount("/judge", inner)
    with TestClient(outer, base_url="http://127.0.0.1") as client:
        answer = client.post("/judge/v1/phones/predict", content=photo(20), headers={"content-type": "image/png"})
        assert answer.status_code == 202
        state = client.get(answer.headers["location"])
        assert (state.status_code, state.json()["id"]) == (200, answer.json()["id"])
        assert client.get("/judge/health/ready").json()["ready"]
        assert client.get("/judge/openapi.json").json()["openapi"] == "3.1.0"
        with pytest.raises(ConflictError, match="a server already runs"):
            tenure.serve("phones")
    with TestClient(
        tenure.asgi(open_loopback=True), base_url="http://127.0.0.1"
    ) as client:  # as a server's own app, after the first one ended
        assert client.get("/health/ready").json()["ready"]


def test_a_mounted_app_asks_for_tokens_and_must_be_started(here: Path) -> None:
    with pytest.raises(AccessError, match="it has no tokens"), TestClient(tenure.asgi()):
        pass
    with office(None) as desk:
        token = desk.access.create("line-1", "client")
    with TestClient(tenure.asgi()) as client:
        headers = {"content-type": "image/png"}
        assert client.post("/v1/phones/predict", content=photo(20), headers=headers).status_code == 401
        headers["authorization"] = f"Bearer {token}"
        assert client.post("/v1/phones/predict", content=photo(20), headers=headers).status_code == 202
    answer = TestClient(tenure.asgi()).get("/health/live")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
