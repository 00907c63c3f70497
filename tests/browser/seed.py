"""A plausible state of a running project, written into the real tables; photos are rendered here.

It follows the demo: phone screens with scratches, `partial` automation, version 2 in its third rollout step, and
lighting that has just gone dark.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa
from PIL import Image, ImageDraw, ImageFilter

from tenure.data import tables as t
from tenure.data.state import State, dumps
from tenure.deploy.automation import certificates, lineage
from tenure.deploy.automation.items import Label
from tenure.deploy.router import Endpoint, Policy, Table
from tenure.monitor import detector, panes
from tenure.monitor.measure import Cell
from tenure.monitor.profile import Profile
from tenure.scope import project as p
from tenure.stats.detector import Terms
from tenure.types import Level

NAME = "phones"
V1, V2, V0 = "scratch-1@4f1c9a02", "scratch-2@b07d55e1", "scratch-bad@e0a1173c"
PANE_S = 10
PANES = 90
DARK = 12  # newest panes after the lamp failed
LINES = p.Segments(
    by="unit", values={"line 1": p.SegmentSpec(errors=0.01), "line 2": p.SegmentSpec(max="assist")}
)
STEPS = (
    p.Step(shadow=1.0, min_labels=200),
    p.Step(share=0.05, min=200),
    p.Step(share=0.25, min=200),
    p.Step(share=1.0),
)


def project() -> p.Project:
    """The project file that the state belongs to."""
    phones = p.EndpointSpec(
        input="image",
        pipeline=(p.StageSpec(stage="crop", uses="my:Crop"), p.StageSpec(stage="scratch", uses="my:Scratch")),
        automation=p.Automation(errors=0.02, blind=0.2, segments=LINES),
        rollout=p.RolloutSpec(
            steps=STEPS, gates=(p.GateSpec(bad="wrong_decision"), p.GateSpec(bad="over_latency"))
        ),
        monitor=p.Monitor(pane=PANE_S, thresholds=(p.Threshold(metric="server_load", above=0.91),)),
        retrain=p.Retrain(command="python train.py", min_labels=500),
    )
    notes = p.EndpointSpec(input="text", output=p.Output(labels=("complaint", "praise", "question")))
    scope = p.Scope(x="photo of a phone screen", y=p.Output(labels=("good", "defect"), regions="box"))
    return p.Project(project="phone screens", scope=scope, endpoints={NAME: phones, "notes": notes})


class Seed:
    """Fills one state; `media` holds the photos by item."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.now = state.now_us()
        self.rng = np.random.default_rng(7)
        self.media: dict[str, tuple[str, bytes]] = {}

    def fill(self) -> Seed:
        with self.state.begin() as conn:
            self._versions(conn)
            self._routing(conn)
            self._automation(conn)
            self._rollouts(conn)
            self._panes(conn)
            self._events(conn)
            self._reviews(conn)
            self._retraining(conn)
            for actor, action, subject, detail in AUDIT:
                self.state.audit(conn, actor=actor, action=action, subject=subject, detail=detail)
        return self

    def ago(self, seconds: float) -> int:
        return self.now - round(seconds * 1e6)

    def alarm(self) -> int:
        """Let the drift alarm of the dark lighting fire now."""
        values = {
            "endpoint": NAME,
            "rule": "drift:input",
            "kind": "data_drift",
            "state": "firing",
            "metric": "brightness",
            "stage": "input",
            "version": "*",
            "shape": "sudden",
            "message": "Brightness fell from 142 to 61 grey levels at the input, suddenly",
            "numbers": dumps(
                {"mean_before": 142.3, "mean_now": 61.2, "share_moved": 0.94, "panes_to_alarm": 3, "log_e": 14.2}
            ),
            "actions": dumps(
                [
                    {"action": "drop_level", "detail": "partial to assist", "at_us": self.now},
                    {"action": "hold_rollout", "detail": "scratch-2 is held", "at_us": self.now},
                ]
            ),
            "onset_us": self.ago(DARK * PANE_S),
            "pending_us": self.ago(60),
            "fired_us": self.state.now_us(),
        }
        with self.state.begin() as conn:
            return int(conn.execute(t.alarms.insert().values(**values)).inserted_primary_key[0])  # type: ignore[index]

    def _versions(self, conn: sa.Connection) -> None:
        rows = (
            (V1, 90_000, {"rows": 4200, "accuracy": 0.961}),
            (V0, 9_000, {"parent": V1, "accuracy": 0.71}),
            (V2, 5_400, {"parent": V1, "snapshot": "s-2026-03", "command": "python train.py", "accuracy": 0.978}),
        )
        for name, age, origin in rows:
            conn.execute(
                t.versions.insert().values(
                    id=name,
                    endpoint=NAME,
                    name=name.split("@")[0],
                    sha=hashlib.sha256(name.encode()).hexdigest(),
                    manifest="{}",
                    provenance=dumps(origin),
                    state="live" if name == V1 else "registered",
                    created_us=self.ago(age),
                    created_by="mira",
                )
            )

    def _routing(self, conn: sa.Connection) -> None:
        policy = Policy(
            3, Level.PARTIAL, {V1: {"*": 0.93}}, valid_until_ns=(self.now + 6 * 86_400_000_000) * 1000
        )
        conn.execute(
            t.policies.insert().values(
                endpoint=NAME,
                body=msgspec.json.encode(policy).decode(),
                created_us=self.ago(4000),
                cause="certificate 1",
            )
        )
        first = Table(
            1,
            self.ago(86_000) * 1000,
            {NAME: Endpoint(V1, msgspec.structs.replace(policy, level=Level.ASSIST, thresholds={}))},
        )
        second = Table(
            2, self.ago(700) * 1000, {NAME: Endpoint(V1, policy, candidate=V2, share=0.25, rollout="r-2")}
        )
        for table, cause in ((first, "scratch-1 answers"), (second, "rollout r-2 reached 25 %")):
            body = msgspec.json.encode(table).decode()
            conn.execute(
                t.routing_tables.insert().values(
                    version=table.version, made_us=table.made_ns // 1000, cause=cause, body=body
                )
            )

    def _automation(self, conn: sa.Connection) -> None:
        moves = (
            ("", "human_only", "shadow", "mira", "the project starts beside the inspectors", 80_000),
            ("", "shadow", "assist", "mira", "612 blind labels; agreement 95.8 %", 40_000),
            ("", "assist", "partial", "mira", "certificate 1 was issued", 4_000),
            ("line 1", "shadow", "assist", "mira", "204 blind labels; agreement 97.1 %", 39_000),
            ("line 2", "assist", "human_only", "mira", "the camera of line 2 is being changed", 1_200),
        )
        for segment, low, high, who, cause, age in moves:
            conn.execute(
                t.levels.insert().values(
                    endpoint=NAME,
                    segment=segment,
                    at_us=self.ago(age),
                    from_level=low,
                    to_level=high,
                    author=who,
                    cause=cause,
                    numbers="{}",
                )
            )
        grid, labels = [0.99, 0.97, 0.95, 0.93, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5], []
        for number in range(1, 1401):
            score = float(1 - 0.5 * self.rng.beta(0.5, 2.2))
            labels.append(
                Label(number, score, bool(self.rng.random() < 0.22 * (1 - score) ** 1.2 + 0.001), False)
            )
        counts = lineage.advance(lineage.start(grid, since=0), grid, 0.02, labels)
        values = {
            "endpoint": NAME,
            "version": V1,
            "segment": "",
            "side": "*",
            "bound": 0.02,
            "delta": 0.05,
            "started_us": self.ago(70_000),
            "state": "open",
            "grid": dumps(grid),
            "counts": msgspec.json.encode(counts).decode(),
            "labels": counts.labels,
            "after_item": 0,
            "last_item": 1400,
            "attempt": 1,
            "note": "certified at 0.93",
        }
        key = conn.execute(t.lineages.insert().values(**values)).inserted_primary_key
        line = {**values, "id": key[0] if key else 1}
        certificates.issue(
            conn,
            line,
            counts,
            grid,
            3,
            coverage=0.78,
            last_item=1400,
            now_us=self.ago(4000),
            life_us=7 * 86_400_000_000,
        )  # type: ignore[arg-type]
        fresh = lineage.advance(lineage.start(grid, since=1400), grid, 0.02, labels[:240])
        more = {
            **values,
            "version": V2,
            "counts": msgspec.json.encode(fresh).decode(),
            "labels": fresh.labels,
            "last_item": 1640,
            "note": lineage.note(fresh, bound=0.02, delta=0.05, side="*", wanted=1000),
        }
        conn.execute(t.lineages.insert().values(**more))

    def _rollouts(self, conn: sa.Connection) -> None:
        plan = dumps(msgspec.to_builtins({"steps": STEPS}))
        base = {"endpoint": NAME, "stable": V1, "plan": plan, "salt": "s", "created_by": "mira"}
        conn.execute(
            t.rollouts.insert().values(
                **base,
                id="r-1",
                candidate=V0,
                evidence_key="a",
                state="rolled_back",
                step=1,
                step_started_us=self.ago(8400),
                attempt=1,
                reason="wrong decisions: the candidate is worse (evidence 21.4, limit 20)",
                created_us=self.ago(8900),
                updated_us=self.ago(8000),
            )
        )
        conn.execute(
            t.rollouts.insert().values(
                **base,
                id="r-2",
                candidate=V2,
                evidence_key="b",
                state="running",
                step=2,
                step_started_us=self.ago(700),
                attempt=1,
                reason="",
                created_us=self.ago(5000),
                updated_us=self.ago(20),
            )
        )
        moves = (
            ("draft", "running", 0, 0, "started", 4_900, "mira", {}),
            (
                "running",
                "running",
                0,
                1,
                "214 labels, no gate failed",
                2_900,
                "tenure",
                {"labels": 214, "max_log_e": 0.41},
            ),
            (
                "running",
                "running",
                1,
                2,
                "203 requests, no gate failed",
                700,
                "tenure",
                {"requests": 203, "max_log_e": 0.8},
            ),
        )
        for low, high, a, b, why, age, who, numbers in moves:
            conn.execute(
                t.rollout_moves.insert().values(
                    rollout="r-2",
                    at_us=self.ago(age),
                    from_state=low,
                    to_state=high,
                    from_step=a,
                    to_step=b,
                    reason=why,
                    numbers=dumps(numbers),
                    author=who,
                )
            )
        for gate, outcome, log_e, counts, sentence in VERDICTS:
            conn.execute(
                t.verdicts.insert().values(
                    rollout="r-2",
                    step=2,
                    gate=gate,
                    outcome=outcome,
                    at_us=self.ago(5),
                    numbers=dumps(
                        {"log_e": log_e, "max_log_e": log_e, "log_limit": 2.9957, "alpha": 0.05}
                        | BANDS.get(gate, {})
                    ),
                    sentence=sentence,
                )
            )
            if gate.startswith("mean:"):
                continue
            x1, x0, n1, n0 = counts
            conn.execute(
                t.evidence.insert().values(
                    rollout="r-2", step=2, gate=gate, rho="0.250000", x1=x1, x0=x0, n1=n1, n0=n0
                )
            )

    def _panes(self, conn: sa.Connection) -> None:
        start = (self.now // (PANE_S * 1_000_000) - PANES) * PANE_S * 1_000_000
        seen: list[dict[tuple[str, str], Profile]] = []
        for i in range(PANES):
            dark, at = i >= PANES - DARK, start + i * PANE_S * 1_000_000
            cells = self._pane(at, dark=dark)
            panes.add(conn, NAME, cells, {})
            seen.append({(c.stage, c.metric): v for c, v in cells.items() if c.stage in ("input",)})
        watches = detector.learn(seen[:60], Terms(threshold=1000.0, risk=0.05, bets=1, delay_rows=2000))
        body = [
            {
                "endpoint": NAME,
                "stage": w.stage,
                "metric": w.metric,
                "learned_us": start,
                "body": msgspec.json.encode(w).decode(),
            }
            for w in watches
        ]
        conn.execute(t.references.insert(), body)

    def _pane(self, at: int, *, dark: bool) -> dict[Cell, Profile]:
        rng, out = self.rng, {}
        inputs = {
            "brightness": rng.normal(61 if dark else 142, 9, 400),
            "contrast": rng.normal(19 if dark else 38, 4, 400),
            "sharpness": rng.gamma(9, 12 if dark else 25, 400),
            "bytes": rng.normal(48_000, 4_000, 400),
        }
        for name, values in inputs.items():
            out[Cell("*", "input", name, at)] = Profile.of(values)
        for version, n in ((V1, 300), (V2, 100)):
            auto = 0.42 if dark else 0.79
            out |= {
                Cell(version, "output", "confidence", at): Profile.of(
                    1 - 0.5 * rng.beta(1.5 if dark else 0.5, 2.2, n)
                ),
                Cell(version, "output", "automated", at): Profile.flags(rng.random(n) < auto),
                Cell(version, "output", "class:defect", at): Profile.flags(
                    rng.random(n) < (0.5 if dark else 0.33)
                ),
                Cell(version, "output", "n_regions", at): Profile.of(rng.poisson(0.5, n)),
                Cell(version, "crop", "time_ms", at): Profile.of(rng.gamma(8, 0.1, n)),
                Cell(version, "scratch", "time_ms", at): Profile.of(
                    rng.gamma(8, 0.6 if version == V1 else 0.7, n)
                ),
                Cell(version, "software", "latency_ms", at): Profile.of(rng.gamma(9, 1.1, n)),
                Cell(version, "software", "error_share", at): Profile.flags(rng.random(n) < 0.002),
            }
        out[Cell("*", "software", "server_load", at)] = Profile.of(rng.normal(0.55, 0.05, 5))
        out[Cell("*", "software", "memory_mb", at)] = Profile.of(rng.normal(412, 3, 5))
        return out

    def _events(self, conn: sa.Connection) -> None:
        for text, age, who, where in (
            ("New coating on the glass", 640, "jonas", NAME),
            ("Lamp 2 replaced", 330, "mira", None),
        ):
            conn.execute(t.events.insert().values(endpoint=where, at_us=self.ago(age), text=text, author=who))
        conn.execute(
            t.alarms.insert().values(
                endpoint=NAME,
                rule="threshold:server_load",
                kind="software",
                state="resolved",
                metric="server_load",
                stage="software",
                version="*",
                shape="",
                message="Server load was 0.94 for 1 min, above 0.91",
                numbers=dumps({"value": 0.94, "above": 0.91}),
                actions="[]",
                pending_us=self.ago(3000),
                fired_us=self.ago(2940),
                resolved_us=self.ago(2400),
            )
        )

    def _reviews(self, conn: sa.Connection) -> None:
        for n in range(1, 15):
            item, defect, blind = f"item{n:02d}", n % 3 != 0, n % 2 == 0
            photo, boxes = render(n, defect=defect, dark=n > 9)
            self.media[item] = ("image/jpeg", photo)
            self._item(conn, n, item, media_type="image/jpeg", blind=blind, level="partial")
            said = "defect" if defect else "good"
            self._said(conn, item, V1, "primary", value=said, confidence=0.62 + 0.02 * n, regions=boxes)
        texts = ("The screen arrived with a scratch, and nobody answers my mails.", "Lovely phone, thank you!")
        for n, text in enumerate(texts, 100):
            self._item(
                conn,
                n,
                f"note{n}",
                media_type="text/plain",
                blind=False,
                level="assist",
                endpoint="notes",
                record=dumps(text),
            )
            self._said(conn, f"note{n}", "words-1@aa", "primary", value="complaint", confidence=0.8, regions=[])

    def _item(
        self,
        conn: sa.Connection,
        number: int,
        item: str,
        *,
        media_type: str,
        blind: bool,
        level: str,
        endpoint: str = NAME,
        record: str | None = None,
    ) -> None:
        conn.execute(
            t.review_items.insert().values(
                id=item,
                number=number,
                endpoint=endpoint,
                kind="uncertain",
                state="open",
                blind=int(blind),
                required=1,
                pending=int(number < 4),
                priority=100.0 - number,
                audit_prob=0.1,
                unit=f"line-{number % 3}",
                policy=3,
                level=level,
                version=V1 if endpoint == NAME else "words-1@aa",
                rollout=None,
                arm="stable",
                share=0.75,
                lottery=0,
                media_type=media_type,
                record=record,
                created_us=self.ago(240 - number),
                deadline_us=self.now + 3_600_000_000 if number < 4 else 0,
            )
        )

    def _said(self, conn: sa.Connection, item: str, version: str, role: str, **said: Any) -> None:
        conn.execute(
            t.item_predictions.insert().values(
                item=item,
                version=version,
                role=role,
                value=dumps(said["value"]),
                confidence=said["confidence"],
                regions=dumps(said["regions"]),
                automated=0,
                at_us=self.ago(200),
            )
        )

    def _retraining(self, conn: sa.Connection) -> None:
        conn.execute(
            t.retrain_runs.insert().values(
                id="t-1",
                endpoint=NAME,
                cause="2,140 new labels",
                state="registered",
                snapshot="s-2026-03",
                version=V2,
                metrics=dumps({"accuracy": 0.978, "incumbent_accuracy": 0.961, "rows": 6340}),
                log="epoch 18: loss 0.071\nepoch 19: loss 0.069\nwrote model.onnx",
                started_us=self.ago(6000),
                ended_us=self.ago(5800),
            )
        )


VERDICTS = (
    (
        "wrong_decision",
        "wait",
        1.31,
        (7, 16, 412, 1240),
        "Not contradicted yet: evidence 3.7 of the 20 at which it rolls back; 88 more labels to decide.",
    ),
    (
        "over_latency",
        "pass",
        0.22,
        (3, 11, 412, 1240),
        "The candidate is no slower as far as 412 requests show: evidence 1.2 of 20.",
    ),
    (
        "mean:confidence",
        "pass",
        0.4,
        (0, 0, 412, 1240),
        "mean confidence 0.91 of night in 412 requests against 0.914 of day in 1,240, a difference of -0.004, "
        "about 95 % -0.021 to +0.013: no evidence of harm (evidence 1.5 of 20 needed)",
    ),
    (
        "wrong_decision @ line=3",
        "wait",
        0.9,
        (1, 2, 9, 33),
        "where line=3: 9 judged requests of night in this step; with fewer than 14 wrong decisions could not be "
        "told from chance",
    ),
)
BANDS = {"mean:confidence": {"difference": -0.004, "low": -0.021, "high": 0.013, "se": 0.005}}
AUDIT: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("mira", "level.move", NAME, {"from": "assist", "to": "partial", "certificate": 1}),
    ("mira", "rollout.start", "r-1", {"candidate": V0}),
    ("tenure", "rollout.roll_back", "r-1", {"gate": "wrong_decision", "evidence": 21.4}),
    ("mira", "rollout.start", "r-2", {"candidate": V2}),
    ("jonas", "event.add", NAME, {"text": "New coating on the glass"}),
)


def render(seed: int, *, defect: bool, dark: bool) -> tuple[bytes, list[dict[str, Any]]]:
    """Return a JPEG of a phone and the boxes of its scratches."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (640, 480), (92, 96, 98))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((190, 20, 450, 460), 34, fill=(22, 23, 26))
    draw.rounded_rectangle((202, 34, 438, 446), 22, fill=(58, 74, 92))
    draw.polygon([(202, 60), (320, 34), (438, 34), (250, 446), (202, 446)], fill=(70, 88, 108))
    boxes = []
    for _ in range(int(rng.integers(1, 3)) if defect else 0):
        x, y, dx, dy = (
            int(v)
            for v in (
                *rng.integers(225, 330, 1),
                *rng.integers(60, 330, 1),
                *rng.integers(35, 80, 1),
                *rng.integers(25, 80, 1),
            )
        )
        draw.line([(x, y), (x + dx // 2, y + dy // 3), (x + dx, y + dy)], fill=(205, 214, 222), width=3)
        boxes.append(
            {"x1": x - 6, "y1": y - 6, "x2": x + dx + 6, "y2": y + dy + 6, "label": "scratch", "confidence": 0.81}
        )
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(0.8)), dtype=np.float32)
    pixels = pixels * (0.4 if dark else 1.0) + rng.normal(0, 4, pixels.shape)
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=88)
    return out.getvalue(), boxes
