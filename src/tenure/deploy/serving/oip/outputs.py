"""What an endpoint answers as tensors, one row for each request row. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.deploy.serving.oip.messages import Parameter, TensorMetadata
from tenure.deploy.serving.oip.tensors import Tensor, of_bytes
from tenure.errors import CaseError, TenureError
from tenure.model.answer import Scores
from tenure.scope.project import Output
from tenure.types import Answer, Box, Value

Reply = Answer | TenureError

MAX_CLASSES = 1000
_encode = msgspec.json.encode


class Outputs:
    """The outputs of one endpoint.

    Attributes:
        metadata: all of them.
        usual: names of those that are sent when a client asks for none.
    """

    def __init__(self, model: str, output: Output) -> None:
        self._model = model
        self._labels = output.labels
        number = output.kind == "number"
        named: dict[str, tuple[str, tuple[int, ...], Callable[[Sequence[Reply]], Any]]] = {
            "value": ("FP64", (-1,), _numbers) if number else ("BYTES", (-1,), _words),
            "confidence": ("FP32", (-1,), _confidences),
        }
        if self._labels:
            named["probabilities"] = ("FP32", (-1, len(self._labels)), self._probabilities)
        if output.regions:
            named["regions"] = ("BYTES", (-1,), _regions)
        self.usual = tuple(named)
        for name, read in (("status", _statuses), ("id", _ids), ("version", _versions), ("error", _errors)):
            named[name] = ("BYTES", (-1,), read)
        self._read = {name: (datatype, read) for name, (datatype, _, read) in named.items()}
        self.metadata = tuple(self._told(name, datatype, shape) for name, (datatype, shape, _) in named.items())

    def expect(self, names: Sequence[str]) -> None:
        """Raise CaseError 400 unless the endpoint has these outputs; asked before anything is answered."""
        for name in names:
            if name not in self._read:
                raise CaseError(
                    f"unexpected inference output {name[:100]!r} for model {self._model!r}; it has "
                    f"{', '.join(self._read)}",
                    code="invalid_body", at=name[:100], status=400,
                )  # fmt: skip

    def tensor(self, name: str, replies: Sequence[Reply]) -> Tensor:
        """Return one output."""
        datatype, read = self._read[name]
        values = read(replies)
        return of_bytes(name, values) if datatype == "BYTES" else Tensor(name, datatype, values)

    def of_scores(self, name: str, scores: Scores, *, version: str, ids: Callable[[], list[str]]) -> Tensor:
        """Return one output of rows that a classifier decided; `ids` makes their ids where they are wanted."""
        n = len(scores)
        if name == "confidence":
            return Tensor(name, "FP32", scores.confidence)
        if name == "probabilities":
            return Tensor(name, "FP32", self._ordered(scores))
        if name == "value":
            words = of_bytes(name, [label.encode("utf-8", "replace") for label in scores.labels])
            return words._replace(data=words.data[scores.best])
        if name == "id":
            return of_bytes(name, [each.encode() for each in ids()])
        same = {"status": b"decided", "version": version.encode(), "regions": b"[]"}.get(name, b"")
        return of_bytes(name, [same] * n)

    def _ordered(self, scores: Scores) -> npt.NDArray[np.float32]:
        if scores.labels == self._labels:
            return scores.probabilities
        columns = {label: i for i, label in enumerate(scores.labels)}
        out = np.zeros((len(scores), len(self._labels)), np.float32)
        for i, label in enumerate(self._labels):
            if label in columns:
                out[:, i] = scores.probabilities[:, columns[label]]
        return out

    def classes(self, name: str, replies: Sequence[Reply], n: int) -> Tensor:
        """Return the n most probable classes of each row as `probability:index:label`, the highest first.

        Raises:
            CaseError: 400, the output has no classes.
        """
        if name != "probabilities":
            raise CaseError(
                f"output {name[:100]!r} of model {self._model!r} has no classes; `probabilities` has",
                code="invalid_body", at=name[:100], status=400,
            )  # fmt: skip
        chances = self._probabilities(replies)
        n = min(n, len(self._labels))
        best = np.argsort(-chances, axis=1, kind="stable")[:, :n]
        flat = [
            f"{chances[row, at]:f}:{at}:{self._labels[at]}".encode()
            for row, order in enumerate(best.tolist())
            for at in order
        ]
        return of_bytes(name, flat, (len(replies), n))

    def _told(self, name: str, datatype: str, shape: tuple[int, ...]) -> TensorMetadata:
        columns: dict[str, Parameter] = {"columns": ",".join(self._labels)} if name == "probabilities" else {}
        return TensorMetadata(name, datatype, shape, columns)

    def _probabilities(self, replies: Sequence[Reply]) -> npt.NDArray[np.float32]:
        out = np.full((len(replies), len(self._labels)), np.nan, np.float32)
        for i, reply in enumerate(replies):
            known = reply.prediction.probabilities if isinstance(reply, Answer) and reply.prediction else None
            if known:
                out[i] = [known.get(label, 0.0) for label in self._labels]
        return out


def undecided(replies: Sequence[Reply]) -> list[str]:
    """Return the ids of the requests that wait for a person."""
    return [reply.id for reply in replies if isinstance(reply, Answer) and reply.decision is None]


def deciders(replies: Sequence[Reply]) -> set[str]:
    """Return the versions that decided."""
    return {reply.decision.version or "" for reply in replies if isinstance(reply, Answer) and reply.decision}


def _decided(reply: Reply) -> Value:
    return reply.decision.value if isinstance(reply, Answer) and reply.decision else None


def _words(replies: Sequence[Reply]) -> list[bytes]:
    return [_word(_decided(reply)) for reply in replies]


def _word(value: Value) -> bytes:
    if value is None:
        return b""
    return value.encode("utf-8", "replace") if isinstance(value, str) else _encode(value)


def _numbers(replies: Sequence[Reply]) -> npt.NDArray[np.float64]:
    values = [_decided(reply) for reply in replies]
    return np.array([v if isinstance(v, int | float) else math.nan for v in values], np.float64)


def _confidences(replies: Sequence[Reply]) -> npt.NDArray[np.float32]:
    out = [math.nan] * len(replies)
    for i, reply in enumerate(replies):
        said = (reply.decision or reply.prediction) if isinstance(reply, Answer) else None
        if said is not None and said.confidence is not None:
            out[i] = said.confidence
    return np.array(out, np.float32)


def _regions(replies: Sequence[Reply]) -> list[bytes]:
    return [_encode(_boxes(reply)) for reply in replies]


def _boxes(reply: Reply) -> tuple[Box, ...]:
    return reply.decision.regions if isinstance(reply, Answer) and reply.decision else ()


def _statuses(replies: Sequence[Reply]) -> list[bytes]:
    return [reply.status.encode() if isinstance(reply, Answer) else b"failed" for reply in replies]


def _ids(replies: Sequence[Reply]) -> list[bytes]:
    return [reply.id.encode() if isinstance(reply, Answer) else b"" for reply in replies]


def _versions(replies: Sequence[Reply]) -> list[bytes]:
    return [
        (reply.decision.version or "").encode() if isinstance(reply, Answer) and reply.decision else b""
        for reply in replies
    ]


def _errors(replies: Sequence[Reply]) -> list[bytes]:
    return [reply.message.encode() if isinstance(reply, TenureError) else b"" for reply in replies]
