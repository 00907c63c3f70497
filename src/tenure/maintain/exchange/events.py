"""What a webhook of Label Studio tells: annotations that were made, changed or deleted.

Its documentation, "Webhook event format reference": `action`, then `annotation` (one, or a list) with its `task`,
or `annotations` with nothing but ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from tenure.errors import CaseError
from tenure.maintain.exchange import label_studio
from tenure.maintain.exchange.entry import Taken, wrong
from tenure.scope.project import Output

MADE = frozenset({"ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_UPDATED"})
GONE = frozenset({"ANNOTATION_DELETED", "ANNOTATIONS_DELETED"})


class Event(msgspec.Struct, kw_only=True):
    """What is to be done about one delivery.

    Attributes:
        action: its word; any other than those above asks for nothing.
        taken: judgements that were made or changed.
        gone: ids of annotations that were deleted.
        skipped: ids of those that say that somebody could not judge.
        faults: what cannot be read of it.
    """

    action: str
    taken: list[Taken] = []
    gone: list[str] = []
    skipped: list[str] = []
    faults: list[CaseError] = []

    @property
    def is_ours(self) -> bool:
        """Say whether the delivery is about annotations."""
        return self.action in MADE | GONE


def read(content: Any, output: Output) -> Event:
    """Return what a delivery asks for; of several annotations each is read by itself.

    Raises:
        CaseError: `invalid_exchange`, it is no event, or tells of annotations without saying which.
    """
    action = content.get("action") if isinstance(content, Mapping) else None
    if not isinstance(action, str) or len(action) > 100:
        raise wrong("action", "expected an event of Label Studio, an object with `action`")
    event = Event(action=action)
    if action in GONE:
        name = "annotations" if "annotations" in content else "annotation"
        event.gone = [_id(one, at) for at, one in _listed(content, name)]
    elif action in MADE:
        for at, one, task in _pairs(content):
            _take(event, at, one, task, output)
    return event


def _take(event: Event, at: str, one: Mapping[str, Any], task: Mapping[str, Any], output: Output) -> None:
    try:
        if one.get("was_cancelled"):
            event.skipped.append(_id(one, at))
        else:
            event.taken.append(label_studio.annotation(task, one, output, at=at))
    except CaseError as error:
        event.faults.append(error)


def _pairs(content: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Yield each annotation with its task, which is told beside it."""
    tasks = [task for _, task in _listed(content, "task")]
    for number, (at, one) in enumerate(_listed(content, "annotation")):
        inner = one.get("task")
        if isinstance(inner, Mapping):
            yield at, one, inner
            continue
        same = [task for task in tasks if task.get("id") == inner and inner is not None]
        yield at, one, same[0] if same else tasks[min(number, len(tasks) - 1)]


def _listed(content: Mapping[str, Any], name: str) -> list[tuple[str, Mapping[str, Any]]]:
    found = content.get(name)
    many = found if isinstance(found, list) else [found]
    if not many or not all(isinstance(one, Mapping) for one in many):
        raise wrong(name, f"the event has no {name}; let the webhook send its payload")
    return [(f"{name}[{i}]" if isinstance(found, list) else name, one) for i, one in enumerate(many)]


def _id(one: Mapping[str, Any], at: str) -> str:
    found = one.get("id")
    if isinstance(found, bool) or not isinstance(found, int | str) or not label_studio.ID.fullmatch(str(found)):
        raise wrong(f"{at}.id", "the annotation has no id")
    return str(found)
