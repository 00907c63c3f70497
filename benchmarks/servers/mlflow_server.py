"""`mlflow models serve` with one worker: a Python function that runs the ONNX file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import work


def prepare(models: Path, folder: Path) -> None:
    """Save the model as MLflow keeps it."""
    import mlflow
    import numpy as np

    class Risk(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
        def load_context(self, context: Any) -> None:
            import work as late

            self.risk = late.Risk(Path(context.artifacts["risk"]).parent)

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return self.risk.probabilities(np.ascontiguousarray(model_input.to_numpy(), dtype=np.float32))

    mlflow.pyfunc.save_model(
        str(folder / "model"), python_model=Risk(), artifacts={"risk": str(models / "risk.onnx")},
        code_paths=[work.__file__], pip_requirements=["onnxruntime"],
    )  # fmt: skip


def main() -> None:
    told = work.told(__doc__)
    if told.prepare:
        prepare(told.models, told.folder)
        return
    bin_ = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}"}
    words = ["-m", str(told.folder / "model"), "-h", "127.0.0.1", "-p", str(told.port), "-w", str(told.workers)]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", *words]
    os.execve(sys.executable, command, environment)


if __name__ == "__main__":
    main()
