"""`tenure register` takes every kind of model, says what it made of it, and what is no model and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenure.cli import main
from tenure.cli.registering import sample
from tenure.errors import CaseError

RNG = np.random.default_rng(2)
X = RNG.normal(size=(200, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
ABOUT = ("--sample", "rows.json", "-e", "churn", "--label", "stay", "--label", "leave")


def onnx(folder: Path) -> Path:
    from sklearn.linear_model import LogisticRegression

    made = pytest.importorskip("skl2onnx").to_onnx(LogisticRegression().fit(X, Y), X[:1])
    (folder / "churn.onnx").write_bytes(made.SerializeToString())
    return folder / "churn.onnx"


def skops(folder: Path) -> Path:
    from sklearn.linear_model import LogisticRegression

    pytest.importorskip("skops.io").dump(LogisticRegression().fit(X, Y), folder / "churn.skops")
    return folder / "churn.skops"


def xgboost(folder: Path, ending: str = "ubj") -> Path:
    library = pytest.importorskip("xgboost")
    booster = library.train({"objective": "binary:logistic", "nthread": 1}, library.DMatrix(X, Y), 3)
    booster.save_model(folder / f"churn.{ending}")
    return folder / f"churn.{ending}"


def lightgbm(folder: Path) -> Path:
    library = pytest.importorskip("lightgbm")
    options = {"objective": "binary", "verbose": -1, "num_threads": 1}
    data = library.Dataset(X.astype(np.float64), Y, feature_name=["a", "b", "c"])
    library.train(options, data, 3).save_model(folder / "churn.txt")
    return folder / "churn.txt"


CODE = """
from dataclasses import dataclass

import tenure
from tenure.model.columns import Columns


def batch(rows: list[dict]) -> list[tenure.Prediction]:
    return [tenure.Prediction("leave" if r["a"] > 0 else "stay", 0.9) for r in rows]


def one(row: dict) -> str:
    return "leave" if row["a"] > 0 else "stay"


async def waits(rows: list[dict]) -> list[str]:
    return [one(row) for row in rows]


class Whole:
    confidence = "margin"

    def predict(self, columns: Columns) -> list[tenure.Prediction]:
        return [tenure.Prediction("leave" if a > 0 else "stay", 0.7) for a in columns["a"]]


@dataclass
class Bound:
    at: float

    async def predict_one(self, row: dict) -> str:
        return "leave" if row["a"] > self.at else "stay"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder without a project, with three records and some code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    rows = [dict(zip("abc", map(float, row), strict=True)) for row in X[:3]]
    rows[1]["b"] = None  # type: ignore[assignment]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "mine.py").write_text(CODE)
    yield tmp_path
    sys.modules.pop("mine", None)


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert not end.value.code


def registered(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    run("register", *arguments, "--no-measure", "--json")
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("make", [onnx, skops, xgboost, lambda f: xgboost(f, "json"), lightgbm])
def test_a_file_is_registered_without_code(
    folder: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Path]
) -> None:
    said = registered(capsys, str(make(folder)), *ABOUT)
    assert said["confidence"] == "probability"
    assert said["expected"]["value"] == ("leave" if X[0, 0] > 0 else "stay")
    assert (said["files"], said["measured"]) == (1, None)


@pytest.mark.parametrize(
    ("name", "worth"), [("batch", "stated"), ("one", "none"), ("waits", "none"), ("Whole", "margin")]
)
def test_any_code_is_registered_by_its_name(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, worth: str
) -> None:
    assert registered(capsys, f"mine:{name}", *ABOUT)["confidence"] == worth


def test_a_class_takes_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    low = registered(capsys, "mine:Bound", "--set", "at=-99", *ABOUT)
    high = registered(capsys, "mine:Bound", "--set", "at=99", *ABOUT)
    assert [each["expected"]["value"] for each in (low, high)] == ["leave", "stay"]


def test_a_file_takes_options_and_a_version_a_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(xgboost(folder))
    options = ("--set", 'labels=["leave", "stay"]', "--name", "turned", "--version", "1.4")
    said = registered(capsys, path, *options, *ABOUT)
    assert said["version"].startswith("turned@")
    assert said["expected"]["value"] == ("stay" if X[0, 0] > 0 else "leave")
    run("versions", "--json")
    assert json.loads(capsys.readouterr().out)[0]["provenance"] == {"version": "1.4"}


def test_what_was_made_is_said_in_a_table_and_the_id_alone_on_the_output(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("register", str(xgboost(folder)), *ABOUT)
    said = capsys.readouterr()
    assert said.out.startswith("xgboostmodel@")
    assert said.out.count("\n") == 1
    steps = ("copying ...", "answering the sample (1 file, ", "measuring latency and memory ...")
    rows = (
        "  files      1 file, ",
        "  confidence probability",
        "  latency    1 at a time: p50 ",
        "; 32 at a time: ",
    )
    rows += ("  memory     ", "  hardware   ", " cores; ", "xgboost")
    for text in (*steps, *rows):
        assert text in said.err


def test_the_fields_are_inferred_from_all_records(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registered(capsys, str(xgboost(folder)), *ABOUT)
    (file,) = (folder / "tenure-data" / "bundles").glob("*/manifest.json")
    fields = json.loads(file.read_text())["input"]["fields"]
    assert {name: f["nullable"] for name, f in fields.items()} == {"a": False, "b": True, "c": False}


PROJECT = """
project: churn
scope: {case: assist, y: {labels: [stay, leave]}}
endpoints:
  churn:
    input: record
    automation: {max: partial, errors: 5%}
    pipeline:
      - {stage: baseline, rule: [{when: a > 0, answer: leave}], otherwise: stay}
"""


def test_a_project_s_pipeline_may_be_a_rule_and_says_what_it_cannot_reach(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "tenure.yaml").write_text(PROJECT)
    run("register", "--sample", "rows.json", "--no-measure")
    said = capsys.readouterr()
    assert said.out.startswith("baseline@")
    assert "fields: b: null in 1 of 3 rows, so it may be null" in said.err
    assert "baseline gives no confidence" in said.err
    assert "partial is out of reach" in said.err


def test_what_is_no_model_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notes.txt").write_text("hello")
    for model, words in (
        ("notes.txt", "notes.txt is text. Accepted are: ONNX model (.onnx); "),
        ("none.onnx", "there is no file none.onnx"),
        (".", "a folder without MLmodel"),
        ("mine:Nothing", "mine has no 'Nothing'"),
    ):
        with pytest.raises(SystemExit):
            main(("register", model, *ABOUT))
        assert words in capsys.readouterr().err


def test_samples_of_one_or_many_records(folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"a": 1}\n\n{"a": 2}\n')
    (folder / "one.json").write_text('{"a": 1}')
    (folder / "bad.json").write_text("{")
    assert sample("rows.jsonl") == [{"a": 1}, {"a": 2}]
    assert sample("one.json") == "one.json"
    assert sample("Win a prize!") == "Win a prize!"
    with pytest.raises(CaseError, match=r"bad.json is not valid JSON"):
        sample("bad.json")
