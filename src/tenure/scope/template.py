"""The project file that `tenure init` writes: short, commented, and without faults as it stands."""

from __future__ import annotations

from dataclasses import dataclass

from tenure.scope.project import InputKind


@dataclass(frozen=True)
class _Words:
    """What differs between kinds of input."""

    x: str
    labels: str
    first: str
    second: str
    module: str
    max_body: str
    loss: str
    extra_output: str = ""
    fields: str = ""
    threshold: str = ""


_RECORD_FIELDS = """
    fields:                       # every field of a record; others are refused
      amount: {type: float, min: 0}
      country: {type: category, values: [de, fr, other]}
      note: {type: text, required: false, nullable: true}"""

_KINDS: dict[InputKind, _Words] = {
    "image": _Words(
        x="photo of one part",
        labels="[good, defect]",
        first="good",
        second="defect",
        module="my:Inspector",
        max_body="8MB",
        loss="{iou: 0.5}            # with regions: a box that overlaps the true one less is wrong",
        extra_output="\n    # regions: box              # answers carry boxes",
        threshold="\n        - {metric: brightness, below: 40, for: 10m, do: [notify]}",
    ),
    "audio": _Words(
        x="one clip of a voice, up to 30 seconds",
        labels="[clear, unclear]",
        first="clear",
        second="unclear",
        module="my:Listener",
        max_body="16MB",
        loss="{word_error: 10%}     # of a transcript, with y: {kind: text} and errors: 2% for sides",
        threshold="\n        - {metric: loudness, below: -50, for: 10m, do: [notify]}",
    ),
    "text": _Words(
        x="one message of a customer",
        labels="[wanted, spam]",
        first="wanted",
        second="spam",
        module="my:Filter",
        max_body="256kB",
        loss="{costs: {wanted: {spam: 1}, spam: {wanted: 0.1}}}   # truth: {answer: what it costs}",
        threshold="\n        - {metric: empty, above: 5%, for: 10m, do: [notify]}",
    ),
    "record": _Words(
        x="one payment",
        labels="[fine, fraud]",
        first="fine",
        second="fraud",
        module="my:Detector",
        max_body="64kB",
        loss="{costs: {fine: {fraud: 0.1}, fraud: {fine: 1}}}   # truth: {answer: what it costs}",
        fields=_RECORD_FIELDS,
        threshold="\n        - {metric: missing, above: 5%, for: 10m, do: [notify]}",
    ),
}


def template(kind: InputKind, name: str) -> str:
    """Return a commented project file for one endpoint called `name` that takes `kind`.

    Args:
        kind: image, audio, text or record.
        name: project and endpoint; small letters, digits, `-` and `_`.
    """
    words = _KINDS[kind]
    return _TEXT.format(kind=kind, name=name, **vars(words))


_TEXT = """\
# What this project promises. `tenure check` reads it and names every fault with its line.
# All keys, their defaults and who keeps them: docs/reference/project-file.md
tenure: 1                         # version of this format
project: {name}

scope:
  case: assist                    # new | assist | replace
  x: {x}
  y:
    labels: {labels}{extra_output}
  metrics:
    errors_automated: {{max: 2%, confidence: 95%}}
  budget: {{people: 2, reviews_per_hour: 240}}

# data:
#   unit: line                    # what shares a fate (line, patient, user): makes assignment sticky

endpoints:
  {name}:                         # clients call POST /v1/{name}/predict
    input: {kind}{fields}
    pipeline:
      - {{stage: model, uses: "{module}"}}   # module:Name; my.py beside this file
    serve:
      latency: 200ms
      max_body: {max_body}
      on_timeout: {{decide: {second}, after: 30s}}   # when no person has decided: the careful answer
      on_controller_lost: {{hold: 10m}}             # then people decide everything
    log:
      durability: process         # survives a killed process; `power` survives a power cut too
      payloads: {{keep: [pending, audited, sampled], sample: 10%, quota: 20GB, retention: 30d}}
    automation:
      start: human_only           # people decide everything until evidence says otherwise
      max: partial                # the model decides where a certificate covers it, people the rest
      sides:                      # errors allowed among automated answers, by label
        {first}: {{errors: 2%}}
        {second}: {{errors: 2%}}
      # loss: {loss}
      audit: {{steady: 10%, rollout: 50%}}   # automated answers that a person checks
      certificate: {{expires: 7d, up: approve}}     # `automatic` goes up without asking
      #   with `decisions: 100000` it also ends after so many
    review:
      lease: 2m                   # then the item goes to somebody else
      # gold: {{share: 2%}}         # items of known truth among the others, to measure the readers
    rollout:
      # strategy: canary          # canary | shadow | blue_green, instead of steps and gates
      steps:                      # a new version: unseen first, then rising shares
        - {{shadow: 100%, min_labels: 500}}
        - {{share: 5%, min: 200}}
        - {{share: 25%, min: 200}}
        - {{share: 100%}}
      gates:                      # each may roll back by itself; alpha: chance to hit a good version
        - {{bad: wrong_decision, alpha: 5%}}
        - {{bad: over_latency, alpha: 5%}}
        - {{bad: failed, alpha: 1%}}
    monitor:
      pane: 60s
      false_alarms: 1 per 30d     # drift alarms without a cause that you accept
      thresholds:
        - {{metric: server_load, above: 0.91, for: 1m, do: [notify]}}{threshold}
      alarms:
        - {{drift: any, do: [notify, hold_rollout, drop_level]}}
    # retrain:
    #   command: python train.py  # runs beside this file when you ask for it
    #   min_labels: 500

privacy: {{level: internal}}        # public | internal; anything above is refused by this version
"""
