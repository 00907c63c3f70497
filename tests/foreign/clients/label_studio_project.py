"""Work in a real Label Studio whose model and webhook are tenure's, a word per check.

argv: its address, its API token, the backend's address, the backend's token, and the folders of two exports: one
whose tasks show suggestions, and one whose tasks do not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from label_studio_sdk import LabelStudio
from label_studio_sdk.label_interface import LabelInterface

base, key, backend, secret = sys.argv[1:5]
studio = LabelStudio(base_url=base, api_key=key)
everything = {"all": True, "excluded": []}


def project_of(name: str, folder: Path) -> tuple[int, list[int]]:
    """Make a project of an export, its model connected and its webhook let in; returns its id and its tasks'."""
    config = (folder / "config.xml").read_text()
    tasks = [{"data": t["data"], "meta": t["meta"]} for t in json.loads((folder / "tasks.json").read_text())]
    made = studio.projects.create(title=name, label_config=config)
    studio.projects.import_tasks(id=made.id, request=tasks)
    model = studio.ml.create(
        url=f"{backend}/label-studio/{name}", project=made.id, title="tenure", auth_method="BASIC_AUTH",
        basic_auth_user="label-studio", basic_auth_pass=secret,
    )  # fmt: skip
    assert model.state == "CO", model
    assert model.model_version, model
    (hook,) = studio.webhooks.list(project=made.id)
    assert hook.url == f"{backend}/label-studio/{name}/webhook"
    studio.webhooks.update(id=hook.id, url=hook.url, headers={"Authorization": f"Bearer {secret}"})
    return made.id, sorted(task.id for task in studio.tasks.list(project=made.id))


def predicted(project: int, tasks: list[int]) -> dict[int, list[dict]]:
    """Let Label Studio ask its model about every task; returns the predictions that it kept."""
    studio.actions.create(id="retrieve_tasks_predictions", project=project, selected_items=everything)
    return {
        task: [
            {"result": p.result, "score": p.score, "model_version": p.model_version}
            for p in studio.predictions.list(task=task)
        ]
        for task in tasks
    }


def choice(label: str) -> list[dict]:
    return [{"type": "choices", "from_name": "label", "to_name": "input", "value": {"choices": [label]}}]


shown, shown_tasks = project_of("open", Path(sys.argv[5]))
blind, blind_tasks = project_of("closed", Path(sys.argv[6]))
print("connected")

interface = LabelInterface((Path(sys.argv[5]) / "config.xml").read_text())
found = predicted(shown, shown_tasks)
assert all(len(one) == 1 for one in found.values()), found
for (one,) in found.values():
    assert interface.validate_prediction(one), one
    assert one["result"][0]["value"]["choices"] == ["big"]
    assert 0 < one["score"] <= 1
print("predictions")

assert not any(predicted(blind, blind_tasks).values())
print("blind")

made = [studio.annotations.create(id=task, result=choice("big"), lead_time=4.5) for task in blind_tasks]
print("created")
studio.annotations.update(id=made[1].id, result=choice("small"))
print("updated")
studio.annotations.delete(id=made[2].id)
print("deleted")
(prediction,) = studio.predictions.list(task=shown_tasks[0])
studio.annotations.create(
    id=shown_tasks[0], result=prediction.result, parent_prediction=prediction.id, lead_time=1.0
)  # fmt: skip
print("accepted")
