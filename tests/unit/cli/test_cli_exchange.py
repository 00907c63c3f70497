"""export, import and dataset as a person calls them."""

from __future__ import annotations

import json
from pathlib import Path

from cli_shell import Shell

from tenure.clock import SystemClock
from tenure.data.state import State
from tenure.deploy.review.items import ItemPrediction, NewItem
from tenure.deploy.review.queue import ReviewQueue


def waiting(folder: Path, n: int) -> None:
    """Put texts that wait for people into the project's queue."""
    state = State.open(folder / "tenure-data" / "state.db", SystemClock())
    queue = ReviewQueue(state, {})
    base = {"kind": "uncertain", "media_type": "text/plain", "version": "v1", "level": "assist", "blind": False}
    with state.begin() as conn:
        items = [NewItem(id=f"q{i}", endpoint="mail", created_us=i, record=f"Win {i}!", **base) for i in range(n)]  # type: ignore[arg-type]
        queue.add(conn, items)
        queue.add_predictions(
            conn,
            [ItemPrediction(item=f"q{i}", version="v1", role="primary", value="spam", at_us=i) for i in range(n)],
        )
    state.close()


def test_from_the_queue_to_label_studio_and_back_into_a_data_set(mail: Shell) -> None:
    waiting(mail.folder, 5)
    out = mail("export", "mail", "to-label", "--format", "label-studio", "--json")
    assert (out.code, out.json()["items"], out.json()["missing"]) == (0, 5, 0)
    tasks = json.loads((mail.folder / "to-label" / "tasks.json").read_text())
    for number, task in enumerate(tasks):
        result = task["predictions"][0]["result"]
        task["annotations"] = [{"id": number, "completed_by": 1, "result": result}]
    Path("done.json").write_text(json.dumps(tasks))
    first = mail("import", "mail", "done.json", "--format", "label-studio", "--json")
    assert (first.code, first.json()["stored"], first.json()["known"]) == (0, 5, 0)
    again = mail("import", "mail", "done.json", "--format", "label-studio", "--json")
    assert (again.code, again.json()["stored"], again.json()["known"]) == (0, 0, 5)
    built = mail("dataset", "build", "mail", "--out", "set", "--test-share", "0", "--json")
    said = built.json()
    assert built.code == 0
    assert said["rows"] == said["counts"]["shown_suggestion"] >= 1
    assert (said["counts"]["blind"], said["counts"]["fair"]) == (0, 0)
    assert mail("dataset", "build", "mail", "--test-share", "0", "--json").json()["sha"] == said["sha"]
    assert mail("dataset", "verify", said["id"][:8]).code == 0
    assert [one["id"] for one in mail("dataset", "list", "--json").json()] == [said["id"]]
    index = mail.folder / "set" / "index.jsonl"
    index.chmod(0o644)
    index.write_text(index.read_text().replace("spam", "ham"))
    assert mail("dataset", "verify", "set").code == 2


def test_a_file_that_is_no_export_says_where(mail: Shell) -> None:
    Path("bad.json").write_text('[{"data": {}}]')
    said = mail("import", "mail", "bad.json", "--format", "label-studio")
    assert said.code == 2
    assert "bad.json[0]" in said.err
