"""`tenure shadow-report` from a project with judged items to a page and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_shell import Shell

from tenure.clock import SystemClock
from tenure.data.state import State
from tenure.deploy.review.items import ItemPrediction, NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.scope import project as p


def judge(folder: Path, version: str, answers: list[tuple[str, str]]) -> None:
    """Let ann judge items blind, each with the version's answer beside hers."""
    [database] = folder.rglob("state.db")
    state = State.open(database, SystemClock())
    spec = p.EndpointSpec(
        input="text", output=p.Output(labels=("spam", "wanted")), review=p.Review(second_reader=p.SecondReader())
    )
    queue = ReviewQueue(state, {"mail": spec}, output=spec.output)
    now = state.now_us()
    for i, (said, judged) in enumerate(answers):
        item = NewItem(
            id=f"i{i}", endpoint="mail", kind="shadow", blind=True, pending=False, priority=1.0, audit_prob=0.0,
            unit="", policy=1, level="shadow", version=version, rollout=None, arm="stable", share=1.0,
            lottery=False, media_type="text/plain", created_us=now, deadline_us=0,
        )  # fmt: skip
        answer = ItemPrediction(
            item=item.id, version=version, role="shadow", value=said, at_us=now, confidence=0.9
        )
        with state.begin() as conn:
            queue.add(conn, [item])
            queue.add_predictions(conn, [answer])
        [lease] = queue.lease("ann")
        queue.submit(lease.item, reader="ann", token=lease.token, value=judged, key=f"k{i}", seconds=1.0)
    state.close()


def test_a_report_is_printed_and_written(mail: Shell) -> None:
    version = mail("versions", "--json").json()[0]["id"]
    judge(mail.folder, version, [("spam", "spam")] * 8 + [("spam", "wanted")] * 2)
    page, data = mail.folder / "r.html", mail.folder / "r.json"
    said = mail("shadow-report", "mail", "--html", str(page), "--json", str(data), "--since", "1h")
    assert said.code == 0, said.err
    assert "agree on 8 of 10 blind items" in said.out
    assert [line.split()[:4] for line in said.out.splitlines() if line.startswith("disagreements")] == [
        ["disagreements", "2", "0", "2"]
    ]
    assert json.loads(data.read_text())["agreement"]["count"] == 8
    assert page.read_text().startswith("<!doctype html>")
    assert mail("shadow-report", "--json", "-").json()["items"] == 10
    assert mail("shadow-report", "--version", "other@1", "--json", "-").json()["items"] == 0


@pytest.mark.parametrize("option", [("--iou", "2"), ("--planned", "10"), ("--since", "soon"), ("--margin", "0")])
def test_a_setting_out_of_range_is_refused(mail: Shell, option: tuple[str, str]) -> None:
    said = mail("shadow-report", *option)
    assert (said.code, option[0].strip("-") in said.err) == (2, True)
