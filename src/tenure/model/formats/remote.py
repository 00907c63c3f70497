"""A model that another server runs, asked by the Open Inference Protocol, version 2, over HTTP.

https://github.com/open-inference/open-inference-protocol (specification/protocol/inference_rest.md)
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import numpy as np

from tenure.clock import SystemClock
from tenure.errors import ModelError
from tenure.model.formats.tabular import Array, Link, Raw, Tabular, classified, confidence_of
from tenure.model.formats.tensors import Wanted, feed
from tenure.types import Failed, Prediction

DTYPES = {
    "BOOL": "bool", "BYTES": "object", "FP16": "float16", "FP32": "float32", "FP64": "float64",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
}  # fmt: skip
"""Datatype of the protocol -> NumPy type."""

_NAMES = {name: datatype for datatype, name in DTYPES.items()}
_clock = SystemClock()
MAX_ANSWER = 64 * 2**20
"""Largest answer that is read, in bytes."""


@dataclass
class RemoteModel(Tabular):
    """A model of another server as a stage.

    Args:
        file: its address, such as `http://10.0.0.5:8000/v2/models/churn` or `…/churn/versions/3`.
        output: name of the output to answer from; empty = the first of shape (n, k), else the first.
        answer: `label` or `number`; empty = what the output looks like.
        scores: what a (n, k) output holds, see `OnnxModel`.
        timeout: seconds for one call, until the whole answer is there.
        retries: further tries where no connection could be made, or the server closed it before it answered.
        token_env: name of an environment variable with a bearer token.

    `labels` and `features` are as of `Tabular`. Records become the tensors that the server's metadata asks for.
    An answer that does not come fails each item of the batch; an answer 4xx to several items is asked again in
    halves, so that the item that the server refuses fails alone.
    """

    output: str = ""
    answer: Literal["", "label", "number"] = ""
    scores: Link = "probability"
    timeout: float = 1.0
    retries: int = 2
    token_env: str = ""
    _local: threading.local = field(default_factory=threading.local, init=False, repr=False)

    def load(self, files: Path) -> None:
        """Ask for the model's inputs; raises ModelError where the server does not know it or is not reached."""
        address = urlsplit(self.file)
        if address.scheme not in ("http", "https") or not address.hostname or "/v2/models/" not in address.path:
            raise ModelError(f"expected http://host/v2/models/NAME, got {self.file!r}", at="file")
        self._address = address
        try:
            status, said = self._call("GET", "", None)
        except OSError as error:
            raise ModelError(f"cannot reach {self.file}: {error}", at=self.file, code="remote_failed") from error
        if status != 200:
            raise ModelError(f"{self.file} answers {status}: {_error(said)}", at=self.file, code="remote_failed")
        self._wanted = [_wanted(each, self.file) for each in said.get("inputs", [])]
        if not self._wanted:
            raise ModelError(f"{self.file} does not say what its inputs are", at=self.file, code="remote_failed")

    def predict(self, batch: list[Any]) -> Sequence[Prediction | Failed]:
        """Ask the server for a batch."""
        arrays = feed(batch, self._wanted, self.features, self.file)
        body = {"inputs": [_tensor(each, arrays[each.name]) for each in self._wanted]}
        if self.output:
            body["outputs"] = [{"name": self.output}]
        try:
            status, said = self._call("POST", "/infer", json.dumps(body).encode())
        except OSError as error:
            return [Failed(f"{self._address.netloc} did not answer: {error}")] * len(batch)
        if 400 <= status < 500:
            raise ValueError(f"{self._address.netloc} answers {status}: {_error(said)}")
        if status != 200:
            return [Failed(f"{self._address.netloc} answers {status}: {_error(said)}")] * len(batch)
        raw = self._raw(self._output(said, len(batch)))
        self.confidence = confidence_of(raw.kind)
        return self.answers(raw)

    def _output(self, said: dict[str, Any], rows: int) -> Array:
        found = {each["name"]: _array(each) for each in said.get("outputs", [])}
        fitting = {name: a for name, a in found.items() if len(a) == rows and self.output in ("", name)}
        if not fitting:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in found.items())
            raise ModelError(f"no output {self.output} of {self.file} has {rows} rows: {shapes}", at="output")
        wide = [a for a in fitting.values() if a.ndim == 2 and a.shape[1] > 1 and a.dtype.kind == "f"]
        return wide[0] if wide and self.answer != "number" else next(iter(fitting.values()))

    def _raw(self, values: Array) -> Raw:
        if values.ndim == 2 and values.shape[1] > 1:
            return classified(values, self.scores)
        if self.answer == "label" and values.dtype.kind == "f":
            return Raw("probability", values.reshape(-1))
        numbers = values.dtype.kind in "fiu" and self.answer != "label"
        return Raw("number" if numbers else "label", values.reshape(-1))

    def _call(self, method: str, path: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        """Make one call on this thread's connection; raises OSError where no answer comes."""
        tries = self.retries + 1
        for left in range(tries - 1, -1, -1):
            try:
                return self._try(method, path, body)
            except TimeoutError:
                self._close()
                raise TimeoutError(f"no answer within {self.timeout:g} s") from None
            except (ConnectionError, http.client.RemoteDisconnected, http.client.CannotSendRequest):
                self._close()
                if not left:
                    raise ConnectionError(f"no connection in {tries} tries") from None
            except (http.client.HTTPException, OSError) as error:
                self._close()
                raise ConnectionError(f"{type(error).__name__}: {error}") from error
        raise AssertionError

    def _try(self, method: str, path: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        connection = self._connection()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token_env:
            headers["Authorization"] = f"Bearer {os.environ.get(self.token_env, '')}"
        end_ns = _clock.monotonic_ns() + int(self.timeout * 1e9)
        connection.request(method, quote(self._address.path, safe="/%:@") + path, body, headers)
        sock = connection.sock
        answer = connection.getresponse()
        content = bytearray()
        while piece := answer.read1(2**16):
            content += piece
            if len(content) > MAX_ANSWER:
                raise OSError(f"the answer is larger than {MAX_ANSWER // 2**20} MiB")
            left = (end_ns - _clock.monotonic_ns()) / 1e9
            if left <= 0:
                raise TimeoutError
            sock.settimeout(left)
        answer.close()  # it was read to its end; the connection stays
        if connection.sock is sock:  # else the server wanted it closed
            sock.settimeout(self.timeout)
        return answer.status, _json(bytes(content), answer.status)

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if found is None:
            kind = http.client.HTTPSConnection if self._address.scheme == "https" else http.client.HTTPConnection
            found = kind(str(self._address.hostname), self._address.port, timeout=self.timeout)
            self._local.connection = found
        return found

    def _close(self) -> None:
        connection = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()


def _json(content: bytes, status: int) -> dict[str, Any]:
    try:
        said = json.loads(content)
    except ValueError:
        said = None
    if isinstance(said, dict):
        return said
    if status == 200:
        raise OSError("the answer is no JSON object")
    return {"error": content[:200].decode(errors="replace")}


def _error(said: dict[str, Any]) -> str:
    return str(said.get("error") or said)[:200]


def _wanted(said: dict[str, Any], file: str) -> Wanted:
    dtype, shape = DTYPES.get(said.get("datatype", "")), said.get("shape", [])
    if dtype is None or not 1 <= len(shape) <= 2:
        raise ModelError(
            f"the input {said.get('name')} of {file} is {said.get('datatype')} of shape {shape}; "
            "expected numbers or texts of shape [-1] or [-1, k]",
            at=file,
        )
    if len(shape) == 1:
        return Wanted(str(said["name"]), dtype, 1, flat=True)
    return Wanted(str(said["name"]), dtype, shape[1] if shape[1] > 0 else None)


def _tensor(wanted: Wanted, array: Array) -> dict[str, Any]:
    return {
        "name": wanted.name,
        "shape": list(array.shape),
        "datatype": _NAMES[wanted.dtype],
        "data": _plain(array.reshape(-1)),
    }


def _plain(flat: Array) -> list[Any]:
    """Return plain values, None for NaN, which JSON has no word for."""
    values: list[Any] = flat.tolist()
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        return [value if np.isfinite(value) else None for value in values]
    return values


def _array(said: dict[str, Any]) -> Array:
    dtype, shape = DTYPES.get(str(said.get("datatype"))), said.get("shape", [])
    try:
        data = [np.nan if v is None else v for v in said["data"]] if dtype in _FLOATS else said["data"]
        return np.array(data, dtype=object if dtype is None else dtype).reshape(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the output {said.get('name')} cannot be read: {error}", at="output") from error


_FLOATS = frozenset({"float16", "float32", "float64"})
