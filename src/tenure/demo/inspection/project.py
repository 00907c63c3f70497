"""The demo's project file and working folder, its people and their tokens."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import msgspec

from tenure.clock import SystemClock
from tenure.data.access import Access
from tenure.data.state import State
from tenure.scope.project import Project
from tenure.scope.reader import load_project
from tenure.system import prepare, state_url

ENDPOINT = "phones"
INSPECTORS = ("Ada", "Bela", "Chen", "Dina")
OPERATOR, CLIENT = "Olga", "line-1"
FILE, ORIGINALS = "tenure.yaml", "originals"

_TEXT = """\
# The project of `tenure demo inspection`: short times so that the story fits four minutes, the same code.
tenure: 1
project: inspection

scope:
  case: assist
  x: grey photo of a phone on the line
  y: {{labels: [good, defect], regions: box}}
  metrics:
    errors_automated: {{max: 2%, confidence: 95%}}
  budget: {{people: 4, reviews_per_hour: 240}}

endpoints:
  phones:                          # the line posts to /v1/phones/predict
    input: image
    pipeline:
      - {{stage: detector, uses: "detector:Detector", placement: thread}}
    serve:
      latency: 200ms
      qps: {qps}
      on_timeout: {{decide: defect, after: 30s}}
    log:
      payloads: {{keep: [pending, audited]}}
    automation:
      start: human_only
      max: partial
      sides:                       # the claim: fewer than 2 % of the automated answers are wrong, on each side
        good: {{errors: 2%}}
        defect: {{errors: 2%}}
      audit: {{steady: 10%, rollout: 100%}}
      blind: 20%
      certificate: {{expires: 7d, up: approve, pilot: 300, plan: 1500}}
    review:
      readers: 1
      second_reader: {{disagreements: 100%, agreements: 2%}}
      lease: 20s
    rollout:
      steps:
        - {{shadow: 100%, min_labels: {shadow_labels}}}
        - {{share: 5%, min: 15}}
        - {{share: 25%, min: 75}}
        - {{share: 100%}}
      gates:
        - {{bad: wrong_decision, alpha: 5%}}
        - {{bad: failed, alpha: 1%}}
      keep_warm: 10m
    monitor:
      pane: 1s
      reference: {reference}
      false_alarms: 1 per 1d
      tolerance: 5%
      notice: 10m
      alarms:
        - {{drift: data, do: [notify, drop_level, hold_rollout, open_retraining]}}
    retrain:
      command: {command}
      min_labels: 300
      timeout: 5m

server: {{workers: 2, port: {port}, console_port: {console_port}, data: tenure-data}}
privacy: {{level: internal}}
"""


class Tokens(msgspec.Struct, frozen=True):
    """Who may call what in the demo."""

    client: str
    operator: str
    inspectors: dict[str, str]


def write(
    folder: Path, *, port: int = 0, console_port: int = 0, qps: float = 100.0, real: bool = False
) -> Project:
    """Write the project file into a folder, which must not hold one, and return the project.

    With `real` photos, of which there are few, the steps of a rollout are short; the bounds are the same.
    """
    command = f"{shlex.quote(sys.executable)} -m tenure.demo.inspection.train {ORIGINALS}"
    text = _TEXT.format(
        port=port,
        console_port=console_port,
        qps=qps,
        shadow_labels=100 if real else 900,
        reference=20 if real else 25,
        command=msgspec.json.encode(command).decode(),
    )
    with (folder / FILE).open("x") as file:
        file.write(text)
    return load_project(folder / FILE)


def people(project: Project) -> Tokens:
    """Make the tokens of the line, the operator and the inspectors."""
    prepare(project.folder())
    state = State.open(state_url(project), SystemClock())
    try:
        access = Access(state)
        return Tokens(
            client=access.create(CLIENT, "client"),
            operator=access.create(OPERATOR, "operator"),
            inspectors={name: access.create(name, "reviewer") for name in INSPECTORS},
        )
    finally:
        state.close()
