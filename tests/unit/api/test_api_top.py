"""The top package: what it offers, and that importing it costs next to nothing."""

from __future__ import annotations

import subprocess
import sys

import tenure


def test_the_names_are_these_and_all_resolve() -> None:
    assert sorted(tenure.__all__) == [
        "Answer", "Audio", "Box", "Decision", "Failed", "Image", "Level", "Prediction", "asgi", "ask", "checks",
        "load_project", "onnx", "register", "serve",
    ]  # fmt: skip
    for name in tenure.__all__:
        assert getattr(tenure, name) is not None
    assert set(tenure.__all__) <= set(dir(tenure))


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_import_tenure_loads_nothing_heavy() -> None:
    assert not loaded_by("import tenure") & {"numpy", "msgspec", "sqlalchemy", "duckdb", "scipy", "starlette"}


def test_the_command_s_help_loads_nothing_heavy() -> None:
    code = "from tenure.cli import app"
    assert not loaded_by(code) & {"numpy", "sqlalchemy", "duckdb", "scipy", "pyarrow", "onnxruntime", "starlette"}


def test_a_server_starts_without_what_only_evidence_needs() -> None:
    assert not loaded_by("import tenure.console.process, tenure.system") & {"scipy", "sklearn"}
