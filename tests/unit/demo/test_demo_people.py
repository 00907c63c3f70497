"""The demo's own people: what they know, how they err, how the line counts."""

import pytest

from tenure.clock import ManualClock
from tenure.demo.inspection import photos
from tenure.demo.inspection.calls import multipart
from tenure.demo.inspection.inspectors import ERROR, Inspector
from tenure.demo.inspection.line import Catalogue, Line, Request
from tenure.demo.inspection.photos import Photo
from tenure.demo.inspection.stage import outcomes


def inspector(name: str = "Ada", seed: int = 1) -> Inspector:
    return Inspector("http://127.0.0.1:9", name, "token", Catalogue(), seed=seed)


def test_a_photo_is_known_by_its_bytes_only() -> None:
    catalogue, photo = Catalogue(), photos.take(1, 1)
    catalogue.add(photo)
    known = catalogue.find(photo.data)
    assert known is not None
    assert (known.label, known.boxes, known.data) == (photo.label, photo.boxes, b"")
    assert catalogue.find(photo.data + b" ") is None


def test_inspectors_err_as_often_as_they_should_and_each_on_other_photos() -> None:
    good = Photo(b"", "good")
    ada, bela = inspector("Ada"), inspector("Bela")
    wrong = {n: [p.opinion(good, str(n))[0] == "defect" for p in (ada, bela)] for n in range(4000)}
    rates = [sum(w[i] for w in wrong.values()) / 4000 for i in (0, 1)]
    assert rates == pytest.approx([ERROR, ERROR], abs=0.01)
    assert sum(a and b for a, b in wrong.values()) < 20


def test_an_inspector_says_the_same_again() -> None:
    photo = photos.take(1, 1, defective=1.0)
    assert inspector().opinion(photo, "abc") == inspector().opinion(photo, "abc")


def test_who_sees_a_defect_draws_its_box() -> None:
    photo = photos.take(1, 1, defective=1.0)
    said = next(inspector().opinion(photo, str(n)) for n in range(100))
    assert said[0] == "defect"
    assert [b["x1"] for b in said[1]] == [b.x1 for b in photo.boxes]


def test_a_form_holds_the_bytes_as_they_are() -> None:
    body, headers = multipart(b"\xff\xd8\r\n--x", "image/jpeg")
    boundary = headers["Content-Type"].partition("boundary=")[2].encode()
    assert body.startswith(b"--" + boundary + b"\r\n")
    assert body.endswith(b"\r\n\r\n\xff\xd8\r\n--x\r\n--" + boundary + b"--\r\n")


def test_outcomes_count_open_requests_as_not_automated() -> None:
    def request(by: str | None, value: str | None, status: int = 202) -> Request:
        return Request(0, "good", 1.0, 0.0, "k", status, value, by)

    seen = outcomes(
        [
            request("model", "good"),
            request("model", "defect"),
            request("person", "good"),
            request(None, None, 202),
        ]
    )
    assert seen["by"] == {"model": 2, "open": 1, "person": 1}
    assert (seen["automated_share"], seen["wrong"], seen["error_among_automated"]) == (0.5, 1, 0.5)


def test_a_refused_request_is_nobodys_decision() -> None:
    assert outcomes([Request(0, "good", 1.0, 0.0, None, 503)])["by"] == {}


def test_the_line_keeps_its_rate_and_does_not_catch_up() -> None:
    clock = ManualClock()
    line = Line("http://127.0.0.1:9", "t", lambda n: None, rate=50.0, clock=clock)
    due = [line._take()[1] for _ in range(3)]
    assert due == pytest.approx([0.02, 0.04, 0.06])
    clock.advance(60)
    assert line._take()[1] == pytest.approx(60.02)
