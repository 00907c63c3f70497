"""Which format a file is of: told by its content, and its ending must agree."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from tenure.errors import ModelError
from tenure.model.formats import onnx_file
from tenure.model.trust import MLMODEL, runs_code

HEAD = 4096


class Format(NamedTuple):
    """A format: its name, endings, the stage that runs it, and whether it answers labels and numbers alike."""

    name: str
    endings: tuple[str, ...]
    stage: str
    either: bool


ONNX = Format("ONNX model", (".onnx",), "onnx:OnnxModel", True)
SKOPS = Format("skops file of scikit-learn", (".skops",), "sklearn:SklearnModel", False)
XGBOOST = Format("XGBoost model", (".ubj", ".json"), "xgboost:XgboostModel", False)
LIGHTGBM = Format("LightGBM model", (".txt",), "lightgbm:LightgbmModel", False)
TORCH = Format("PyTorch program (torch.export)", (".pt2",), "torch:TorchModel", False)
MLFLOW = Format("MLflow folder", (), "mlflow:MlflowModel", True)
REMOTE = Format("remote model", (), "remote:RemoteModel", True)
FILES = (ONNX, SKOPS, XGBOOST, LIGHTGBM, TORCH)

ACCEPTED = "; ".join(
    [f"{f.name} ({', '.join(f.endings)})" for f in FILES]
    + [f"MLflow folder (with {MLMODEL})", "http://host/v2/models/NAME", "module:Name of a class or function"]
)
"""What can be registered, in words."""


def is_address(text: str) -> bool:
    """Say whether a text names a remote model."""
    return text.startswith(("http://", "https://"))


def recognise(place: str | Path) -> Format:
    """Return the format of a file, a folder or an address.

    Raises:
        ModelError: there is nothing, or it is none of the formats, or its ending says another; the text says what
            was found and what is accepted.
    """
    if is_address(str(place)):
        return REMOTE
    path = Path(place)
    if path.is_dir():
        if (path / MLMODEL).is_file():
            return MLFLOW
        raise _refused(path.name, f"a folder without {MLMODEL}")
    if not path.is_file():
        raise ModelError(f"there is no file {path}", at=str(path), code="not_a_model")
    found = next((f for f in FILES if _TESTS[f.name](path)), None)
    if found is None:
        raise _refused(path.name, _look(path))
    if path.suffix.lower() not in found.endings:
        raise _refused(path.name, f"of another format ({found.name}); name it {' or '.join(found.endings)}")
    return found


def stage_of(place: str | Path, **options: Any) -> Any:
    """Return the stage that runs a file, a folder or an address, constructed with `options`.

    Raises:
        ModelError: as `recognise`; or the stage has no such option.
    """
    module, _, name = recognise(place).stage.partition(":")
    kind = getattr(import_module(f"tenure.model.formats.{module}"), name)
    known = [n for n, f in kind.__dataclass_fields__.items() if f.init]
    for option in options:
        if option not in known:
            raise ModelError(f"{name} has no option {option!r}; it has {', '.join(known)}", at=option)
    return kind(**options)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _entries(path: Path) -> list[str]:
    if not zipfile.is_zipfile(path):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        return []


def _is_onnx(path: Path) -> bool:
    if _head(path)[:1] != b"\x08":  # ir_version, the first field
        return False
    try:
        onnx_file.needs(path)
    except ModelError:
        return False
    return True


def _is_xgboost(path: Path) -> bool:
    head = _head(path)
    return head.lstrip()[:1] == b"{" and b"learner" in head


_TESTS: dict[str, Callable[[Path], bool]] = {
    ONNX.name: _is_onnx,
    SKOPS.name: lambda path: "schema.json" in _entries(path),
    XGBOOST.name: _is_xgboost,
    LIGHTGBM.name: lambda path: _head(path).startswith(b"tree\n") or _head(path).startswith(b"tree\r\n"),
    TORCH.name: lambda path: any(
        name.endswith(("archive_version", "/models/model.json")) for name in _entries(path)
    ),
}


def _look(path: Path) -> str:
    """Say what a file is that is no model."""
    why = runs_code(path)
    if why:
        return f"a file that is refused: {why}; export the model, or load it in a class of your own"
    if path.stat().st_size == 0:
        return "an empty file"
    head = _head(path)
    if zipfile.is_zipfile(path):
        return f"a zip archive with {', '.join(_entries(path)[:3])}"
    if head.lstrip()[:1] in (b"{", b"["):
        return "JSON that is no XGBoost model"
    if len(head) > 8 and head[8:9] == b"{" and b'"dtype"' in head:
        return "safetensors: weights without a model; give them with --files to a class that reads them"
    return "text" if _is_text(head) else "bytes that are none of these formats"


def _is_text(head: bytes) -> bool:
    try:
        return head.decode("utf-8", errors="strict").isprintable() or b"\n" in head
    except UnicodeDecodeError:
        return False


def _refused(name: str, found: str) -> ModelError:
    return ModelError(f"{name} is {found}. Accepted are: {ACCEPTED}", at=name, code="not_a_model")
