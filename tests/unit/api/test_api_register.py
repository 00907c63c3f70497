"""Registering without a project file: what is inferred, what is kept, what is refused."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import api_stages
import pytest
from PIL import Image as Pillow

import tenure
from tenure.api import adhoc
from tenure.cli.office import office
from tenure.errors import ConflictError, MissingError, ModelError, ProjectError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def png(level: int = 120) -> bytes:
    out = io.BytesIO()
    Pillow.new("L", (16, 12), level).save(out, "png")
    return out.getvalue()


def test_the_first_version_makes_the_endpoint_and_is_put_in_force() -> None:
    version = tenure.register("tickets", api_stages.Urgency, sample="It burns!", labels=["urgent", "normal"])
    project = adhoc.find()
    spec = project.endpoints["tickets"]
    assert (spec.input, project.output("tickets").labels) == ("text", ("urgent", "normal"))
    assert (spec.automation.start, spec.automation.max) == ("shadow", "assist")
    with office(None) as desk, desk.state.read() as conn:
        assert desk.rollouts.stable(conn, "tickets") == version
        assert desk.registry.live("tickets") == version


def test_later_versions_are_only_registered() -> None:
    first = tenure.register("tickets", api_stages.Urgency, sample="It burns!", labels=["urgent", "normal"])
    second = tenure.register("tickets", api_stages.Sure, sample="It burns!")
    assert tenure.register("tickets", api_stages.Sure, sample="It burns!") == second
    with office(None) as desk, desk.state.read() as conn:
        assert desk.rollouts.stable(conn, "tickets") == first
        assert [v.id for v in desk.registry.list("tickets")] == [first, second]


def test_labels_come_from_the_sample_s_probabilities() -> None:
    tenure.register("tickets", api_stages.Sure, sample="It burns!")
    assert adhoc.find().output("tickets").labels == ("urgent", "normal")


def test_labels_that_one_answer_does_not_show_must_be_said() -> None:
    with pytest.raises(ModelError, match=r"'urgent'\) does not show what else may be answered; say labels="):
        tenure.register("tickets", api_stages.Urgency, sample="It burns!")


def test_a_record_s_fields_come_from_its_samples(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="tenure"):
        tenure.register("prices", api_stages.total, sample={"amount": 2.5})
    fields = adhoc.find().endpoints["prices"].fields
    assert fields["amount"].type == "float"
    assert "inferred from one row" in caplog.text
    assert adhoc.find().output("prices").kind == "number"


def test_several_records_tell_more_of_the_fields() -> None:
    tenure.register("prices", api_stages.total, sample=[{"amount": 1, "note": "a"}, {"amount": 2.5}])
    fields = adhoc.find().endpoints["prices"].fields
    assert (fields["amount"].type, fields["note"].required) == ("float", False)


def test_pictures_are_known_by_their_file_or_their_bytes(folder: Path) -> None:
    (folder / "photo.png").write_bytes(png())
    tenure.register("rooms", api_stages.bright, sample="photo.png", labels=["light", "dark"])
    tenure.register("halls", api_stages.bright, sample=png(), labels=["light", "dark"], regions=False)
    project = adhoc.find()
    assert {n: s.input for n, s in project.endpoints.items()} == {"rooms": "image", "halls": "image"}
    assert (project.output("rooms").regions, project.output("halls").regions) == ("box", None)


def test_a_missing_photo_is_not_taken_for_a_text() -> None:
    with pytest.raises(ModelError, match=r"cannot read the sample .*photo\.png"):
        tenure.register("rooms", api_stages.bright, sample="photo.png", labels=["light", "dark"])
    assert not adhoc.exists(Path("tenure-data"))


def test_bytes_of_no_known_kind_need_the_kind_said() -> None:
    with pytest.raises(ModelError, match="say input="):
        tenure.register("rooms", api_stages.bright, sample=b"\x00\x01\x02")


def test_a_refused_version_leaves_no_endpoint_behind() -> None:
    with pytest.raises(ModelError):
        tenure.register("tickets", api_stages.Urgency, sample="It burns!", labels=["other", "normal"])
    assert not adhoc.exists(Path("tenure-data"))


def test_an_endpoint_keeps_its_labels_and_its_kind() -> None:
    tenure.register("tickets", api_stages.Urgency, sample="It burns!", labels=["urgent", "normal"])
    with pytest.raises(ConflictError, match="other labels need another endpoint"):
        tenure.register("tickets", api_stages.Urgency, sample="It burns!", labels=["urgent", "no"])
    with pytest.raises(ConflictError, match="takes text, not image"):
        tenure.register("tickets", api_stages.bright, sample=png(), input="image")


def test_a_project_file_here_wins_and_must_name_the_endpoint(folder: Path) -> None:
    (folder / "tenure.yaml").write_text(
        "tenure: 1\nproject: mail\nscope: {y: {labels: [urgent, normal]}}\n"
        "endpoints:\n  mail: {input: text, automation: {max: assist}}\n"
    )
    version = tenure.register("mail", api_stages.Urgency, sample="It burns!")
    assert not adhoc.exists(folder / "tenure-data")
    with office(None) as desk:
        assert [v.id for v in desk.registry.list()] == [version]
    with pytest.raises(MissingError, match="no endpoint 'tickets'; there is: mail"):
        tenure.register("tickets", api_stages.Urgency, sample="It burns!")


def test_a_moved_data_folder_is_still_a_project(folder: Path) -> None:
    tenure.register("tickets", api_stages.Urgency, sample="It burns!", labels=["urgent", "normal"], data="a")
    (folder / "a").rename(folder / "b")
    assert adhoc.find("b").folder() == folder / "b"


def test_where_there_is_no_project_the_error_says_what_to_do() -> None:
    with pytest.raises(ProjectError, match="`tenure init` writes a project file"):
        adhoc.find()


def test_serve_writes_a_bound_into_the_project_and_refuses_a_high_start() -> None:
    tenure.register("tickets", api_stages.Urgency, sample="It burns!", labels=["urgent", "normal"])
    project = adhoc.automated(adhoc.find(), "tickets", start="assist", errors=0.02)
    spec = project.endpoints["tickets"].automation
    assert (spec.start, spec.max, spec.errors) == ("assist", "partial", 0.02)
    with pytest.raises(ConflictError, match="earned by a certificate"):
        adhoc.automated(project, "tickets", start="full", errors=None)
