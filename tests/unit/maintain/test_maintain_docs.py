"""The example of docs/howto/retrain.md is run as it stands there, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

from maintain_world import World

from tenure.maintain.snapshot import Row

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "howto" / "retrain.md").read_text()


def test_the_example_trains_a_version(world: World) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len([line for line in example.splitlines() if line]) <= 20
    (world.root / "train.py").write_text(example)
    world.first_version()
    world.judged(100)
    retrainer = world.retrainer()
    run = retrainer.get(retrainer.run("phones", "asked", "ann"))
    assert (run.state, run.error) == ("registered", None)
    assert run.metrics["command"] == {"train_error": 0.0}


def test_the_page_names_every_key_of_a_row() -> None:
    table = PAGE.partition("## The data set")[2].partition("Absent keys")[0]
    keys = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    named = {name for key in keys for name in re.findall(r"`(\w+)`", key)}
    assert named == set(Row.__struct_fields__)
