"""`tenure certificate` over judged items of a real project."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from cli_shell import Shell

from tenure.clock import SystemClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.automation.ledger import Automation
from tenure.scope.project import Automation as Spec
from tenure.scope.project import CertificateSpec, EndpointSpec

V = "mail@1"


def state_of(folder: Path) -> State:
    [database] = folder.rglob("state.db")
    return State.open(database, SystemClock())


def certify(state: State) -> None:
    spec = Spec(start="shadow", max="partial", errors=0.1, certificate=CertificateSpec(pilot=60, plan=600))
    auto, rng = Automation(state, {"mail": EndpointSpec(input="text", automation=spec)}), np.random.default_rng(3)
    for first, last in ((1, 61), (61, 361)):
        with state.begin() as conn:
            auto.reconcile(conn, "mail", state.now_us(), live=(V,), in_rollout=False)
            for n in range(first, last):
                item = {
                    "id": f"i{n}", "number": n, "endpoint": "mail", "kind": "shadow", "state": "resolved",
                    "blind": 1, "required": 1, "pending": 0, "priority": 0.0, "audit_prob": 0.1, "unit": "",
                    "policy": 1, "level": "shadow", "version": V, "arm": "stable", "share": 1.0, "lottery": 0,
                    "media_type": "text/plain", "created_us": n, "deadline_us": 0, "resolved_us": n,
                    "truth": '"spam"', "source": "single", "resolution": n,
                }  # fmt: skip
                said = {
                    "item": f"i{n}", "version": V, "role": "shadow", "value": '"spam"', "regions": "[]",
                    "confidence": float(rng.random()), "automated": 0, "at_us": n,
                }  # fmt: skip
                conn.execute(t.review_items.insert().values(**item))
                conn.execute(t.item_predictions.insert().values(**said))
    with state.begin() as conn:
        moves = auto.reconcile(conn, "mail", state.now_us(), live=(V,), in_rollout=False)
    assert "certified" in [m.kind for m in moves]


def test_list_show_verify_and_a_tampered_truth(mail: Shell) -> None:
    mail("level", "show")
    state = state_of(mail.folder)
    certify(state)
    assert "1: valid, mail@1, all answers" in mail("certificate", "list").out
    shown = mail("certificate", "show", "1")
    assert "With 95 % confidence, fewer than 10 %" in shown.out
    assert "attempt 1" in shown.out
    assert mail("certificate", "show", "1", "--json").json()["evidence"]["counts"]["n"]
    found = mail("certificate", "verify", "1")
    assert (found.code, found.out) == (0, "certificate 1: match, 300 labels and 0 audits since counted again\n")
    i = t.review_items
    with state.begin() as conn:
        conn.execute(sa.update(i).where(i.c.number == 200).values(truth=json.dumps("wanted")))
    found = mail("certificate", "verify", "1")
    assert found.code == 1
    assert "differs: item 200 was counted as right and is wrong now" in found.out
    assert mail("certificate", "verify", "1", "--json").json()["match"] is False


def test_an_unknown_certificate(mail: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    found = mail("certificate", "verify", "9")
    assert found.code != 0
    assert "no certificate 9" in found.err
