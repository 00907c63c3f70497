"""One step of a pipeline: the contract between tenure and a user's code, adapted and enforced here.

The contract: `predict(batch) -> answers`, a list in, a list of the same length in the same order out; an item
that cannot be answered is `Failed(reason)`; inputs are never changed; no state moves.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from tenure.errors import ModelError
from tenure.model.answer import Scores, as_prediction
from tenure.model.columns import Columns, Rows
from tenure.types import Audio, Failed, Image, Prediction

_VALUES = frozenset({str, int, float, bool, type(None)})
"""Types that nobody can change in place."""
_ARRAYS = (Rows, Scores)


class Stage(Protocol):
    """What the pipeline runs; `adapt` makes one from a class, an instance or a function."""

    def load(self, files: Path) -> None:
        """Read weights from the bundle's `files` folder; called once per process, before any `predict`."""
        ...

    def predict(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Answer each item, in order."""
        ...


def adapt(thing: Any) -> Stage:
    """Make a stage of a class, an instance with `predict` or `predict_one`, or a function; each may be async.

    A function whose first parameter is annotated with something that is not a list takes one item; else it takes
    the batch. An annotation `Columns` gets records as columns, a dataclass or msgspec.Struct gets records
    converted, `numpy.ndarray` gets pixels or samples. An object whose `takes_rows` is true gets records of
    numbers as `Rows` and may return `Scores`: no Python object is made per record then.

    Raises:
        ModelError: it is none of these, or a class that needs arguments.
    """
    if inspect.isclass(thing):
        return adapt(_instance(thing))
    for name, one in (("predict", False), ("predict_one", True)):
        method = getattr(thing, name, None)
        if callable(method):
            rows = bool(getattr(thing, "takes_rows", False))
            return _Adapted(method, load=getattr(thing, "load", None), one_by_one=one, takes_rows=rows)
    if callable(thing):
        return _Adapted(thing, load=None, one_by_one=_takes_one(thing))
    raise ModelError(
        f"expected a class or object with `predict`, or a function, got {type(thing).__name__}", at="stage"
    )


def run_stage(stage: Stage, batch: Sequence[Any]) -> list[Prediction | Failed]:
    """Run the last stage of a pipeline: `call`, and plain return values become predictions.

    Raises:
        ModelError: the stage did not return one answer for each item.
    """
    return [as_prediction(answer) for answer in call(stage, batch)]


def call(stage: Stage, batch: Sequence[Any]) -> Sequence[Any]:
    """Run a stage on a batch and return one answer or `Failed` for each item, in order.

    Where `predict` raises, the batch is halved until only the poisonous items fail. Items are handed over
    read-only or as copies.

    Raises:
        ModelError: the stage did not return one answer for each item.
    """
    if not batch:
        return []
    items = batch if isinstance(batch, _ARRAYS) else [shield(item) for item in batch]
    try:
        answers = _listed(stage.predict(items))
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - a user's code raises anything; it must cost its item only
        if len(batch) == 1:
            return [Failed(f"{type(error).__name__}: {error}"[:500])]
        half = len(batch) // 2
        return [*call(stage, batch[:half]), *call(stage, batch[half:])]
    if len(answers) != len(batch):
        raise ModelError(
            f"`predict` must return one answer for each item: expected {len(batch)}, got {len(answers)}",
            at="predict",
        )
    return answers


def shield(item: Any) -> Any:
    """Return the item so that a stage cannot change what others see: arrays read-only, containers copied."""
    if isinstance(item, Image):
        item.pixels.flags.writeable = False
    elif isinstance(item, Audio):
        item.samples.flags.writeable = False
    elif isinstance(item, np.ndarray):
        item.flags.writeable = False
    elif isinstance(item, dict):
        return {key: value if type(value) in _VALUES else shield(value) for key, value in item.items()}
    elif isinstance(item, list):
        return [shield(value) for value in item]
    return item


def _listed(answers: Any) -> Sequence[Any]:
    if isinstance(answers, Scores):
        return answers
    if isinstance(answers, str | bytes | dict | None) or not hasattr(answers, "__iter__"):
        raise ModelError(f"`predict` must return a list, got {type(answers).__name__}", at="predict")
    return list(answers)


class _Adapted:
    """A user's `predict` behind the one interface of the pipeline."""

    def __init__(
        self, function: Callable[..., Any], *, load: Any, one_by_one: bool, takes_rows: bool = False
    ) -> None:
        self._function = function
        self._takes_rows = takes_rows
        self._load = load
        self._one_by_one = one_by_one
        self._convert = _converter(_first_hint(function), one_by_one=one_by_one)

    def load(self, files: Path) -> None:
        if callable(self._load):
            _finish(self._load(files))

    def predict(self, batch: Sequence[Any]) -> Any:
        if self._takes_rows and not self._one_by_one:
            return _finish(self._function(batch))
        if isinstance(batch, Scores) or (isinstance(batch, Rows) and self._convert is not Columns):
            batch = list(batch)
        if not self._one_by_one:
            return _finish(self._function(self._convert(batch)))
        return [self._single(item) for item in batch]

    def _single(self, item: Any) -> Any:
        try:
            return _finish(self._function(self._convert([item])[0]))
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - as in `call`
            return Failed(f"{type(error).__name__}: {error}"[:500])


def _finish(value: Any) -> Any:
    """Return the value, of a coroutine its result: run in a fresh loop, on the thread of the stage."""
    if type(value) is Scores or not inspect.iscoroutine(value):
        return value
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(value)
    value.close()
    raise ModelError("an async stage needs `placement: thread`: an event loop runs on this thread", at="stage")


def _instance(kind: type[Any]) -> Any:
    try:
        return kind()
    except TypeError as error:
        raise ModelError(
            f"{kind.__name__} must be constructible without arguments: {error}", at=kind.__name__
        ) from error


def _takes_one(function: Callable[..., Any]) -> bool:
    hint = _first_hint(function)
    if hint in (None, Any, Columns, list, tuple, Sequence):
        return False
    return typing.get_origin(hint) not in (list, tuple, Sequence)


def _first_hint(function: Callable[..., Any]) -> Any:
    """Return the annotation of the first parameter, None when there is none or it cannot be resolved."""
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        hints = typing.get_type_hints(target)
        names = list(inspect.signature(function).parameters)
    except (NameError, TypeError, ValueError, AttributeError):
        return None
    return hints.get(names[0]) if names else None


def _converter(hint: Any, *, one_by_one: bool) -> Callable[[Sequence[Any]], Any]:
    """Return how a batch is converted before the user's code sees it."""
    if hint is Columns:
        return Columns
    item = hint if one_by_one else next(iter(typing.get_args(hint)), None)
    if inspect.isclass(item) and (issubclass(item, msgspec.Struct) or dataclasses.is_dataclass(item)):
        return lambda batch: [msgspec.convert(x, item) if isinstance(x, dict) else x for x in batch]
    if item is np.ndarray or typing.get_origin(item) is np.ndarray:
        return lambda batch: [_plain_array(x) for x in batch]
    return lambda batch: batch


def _plain_array(item: Any) -> Any:
    if isinstance(item, Image):
        return item.pixels
    return item.samples if isinstance(item, Audio) else item
