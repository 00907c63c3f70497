"""Write what was answered before it is answered: one frame per event-loop tick and endpoint."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from tenure.clock import Clock
from tenure.data.frames import Column, Encoder
from tenure.data.records import Kind, Schema, plain_schema, prediction_schema
from tenure.data.spool import SchemaStore, SpoolWriter
from tenure.errors import BusyError, StoreError
from tenure.seeds import fresh_u64
from tenure.settings import Settings

_pack = msgspec.msgpack.Encoder().encode
Values = tuple[float | int, ...]


class Journal:
    """The spool of one process, seen from its event loop.

    Rows handed in during one tick of the loop become one frame per schema and one `write`; their futures
    resolve after it. So what was answered is logged, and a lone request never waits for others.
    """

    def __init__(
        self, folder: Path, name: str, *, settings: Settings, clock: Clock, durability: str = "process"
    ) -> None:
        self.run = fresh_u64()
        self._clock = clock
        self._schemas = SchemaStore(folder / "schemas")
        self._power = durability == "power"
        spool = folder / "spool"
        self._records = SpoolWriter(
            spool, name, self.run, segment_bytes=settings.segment_bytes, segment_s=settings.segment_s,
            durability="power" if self._power else "process", clock=clock,
        )  # fmt: skip
        self._payloads = SpoolWriter(
            spool, f"{name}.payload", self.run, segment_bytes=settings.payload_segment_bytes,
            segment_s=settings.segment_s, durability="power" if self._power else "process", clock=clock,
        )  # fmt: skip
        self._encoders: dict[tuple[Any, ...], Encoder] = {}
        self._waiting: dict[Encoder, list[tuple[Values, bytes, asyncio.Future[None]]]] = {}
        self._next_seq = 0
        self._scheduled = False
        self._unsafe: list[Callable[[BaseException | None], None]] = []
        self._syncing = False
        self._flusher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="flush")

    def next_seq(self) -> int:
        """Return a new number within this run."""
        self._next_seq += 1
        return self._next_seq

    def next_seqs(self, n: int) -> int:
        """Return the first of `n` new numbers in a row."""
        first = self._next_seq + 1
        self._next_seq += n
        return first

    def prediction_encoder(
        self, endpoint: str, *, stages: tuple[str, ...], metrics: tuple[str, ...], versions: tuple[str, ...],
        labels: tuple[str, ...] = (), fields: tuple[tuple[str, str], ...] = (), single: bool = False,
    ) -> Encoder:  # fmt: skip
        key = (Kind.PREDICTION, endpoint, stages, metrics, versions, labels, fields, single)
        return self._encoder(
            key,
            lambda: prediction_schema(
                endpoint, stages=stages, metrics=metrics, versions=versions, labels=labels, fields=fields,
                single=single,
            ),
        )  # fmt: skip

    def plain_encoder(
        self, kind: Kind, endpoint: str, versions: tuple[str, ...] = (), labels: tuple[str, ...] = ()
    ) -> Encoder:  # fmt: skip
        key = (kind, endpoint, versions, labels)
        return self._encoder(key, lambda: plain_schema(kind, endpoint, versions, labels))

    def write(self, encoder: Encoder, values: Values, variable: Mapping[str, Any]) -> asyncio.Future[None]:
        """Log one row; the future resolves when it is in the log, or carries a StoreError.

        `values` are in the order of the schema's columns; keys of `variable` that are None are left out.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        blob = _pack({k: v for k, v in variable.items() if v is not None})
        self._waiting.setdefault(encoder, []).append((values, blob, future))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        return future

    def append(
        self, encoder: Encoder, *, first_seq: int, head: Sequence[Column | float | int], tail: bytes,
        var: Sequence[bytes],
    ) -> None:  # fmt: skip
        """Log one frame of columns now; see `Encoder.encode_parts`. Raises StoreError: nothing was written."""
        now = self._clock.now_ns()
        self._records.append(
            encoder.encode_parts(run=self.run, first_seq=first_seq, t_ns=now, head=head, tail=tail, var=var)
        )

    def append_rows(
        self, encoder: Encoder, *, rows: Sequence[Values], tail: bytes, var: Sequence[bytes], first_seq: int
    ) -> None:  # fmt: skip
        """Log one frame of rows now; see `Encoder.encode_rows`. Raises StoreError: nothing was written."""
        now = self._clock.now_ns()
        self._records.append(
            encoder.encode_rows(run=self.run, first_seq=first_seq, t_ns=now, rows=rows, tail=tail, var=var)
        )

    def when_safe(self, call: Callable[[BaseException | None], None]) -> None:
        """Call back once what was appended is as durable as promised: at once, or after the next flush.

        With `durability: power` the appends of one tick share one flush, off the loop; `call` gets its error.
        """
        if not self._power:
            call(None)
            return
        self._unsafe.append(call)
        if not self._syncing:
            self._syncing = True
            asyncio.get_running_loop().call_soon(self._start_sync)

    def _start_sync(self) -> None:
        calls, self._unsafe = self._unsafe, []
        try:
            task = asyncio.get_running_loop().run_in_executor(self._flusher, self._sync)
        except RuntimeError as error:  # the flusher is closed: the worker ends
            self._synced(calls, error)
            return
        task.add_done_callback(lambda done: self._synced(calls, _error_of(done)))

    def _synced(
        self, calls: Sequence[Callable[[BaseException | None], None]], error: BaseException | None
    ) -> None:
        self._syncing = bool(self._unsafe)
        if self._syncing:
            asyncio.get_running_loop().call_soon(self._start_sync)
        for call in calls:
            call(error)

    def keep_payload(self, endpoint: str, seq: int, media_type: str, data: bytes) -> None:
        """Log an input's bytes now. Raises StoreError when the disk is full."""
        encoder = self.plain_encoder(Kind.PAYLOAD, endpoint)
        now = self._clock.now_ns()
        digest = hashlib.sha256(data).hexdigest()
        blob = _pack({"media_type": media_type, "sha256": digest, "data": data})
        columns = {"seq": (seq,), "t_ns": (now,)}
        self._payloads.append(encoder.encode(run=self.run, first_seq=seq, t_ns=now, columns=columns, var=(blob,)))

    def tick(self) -> None:
        """Finish segments that are old enough; call it now and then."""
        self._records.tick()
        self._payloads.tick()

    def close(self) -> None:
        self._flush()
        self._flusher.shutdown(wait=True)
        self._records.close()
        self._payloads.close()

    def _encoder(self, key: tuple[Any, ...], make: Any) -> Encoder:
        found = self._encoders.get(key)
        if found is None:
            schema: Schema = make()
            self._schemas.put(schema)
            found = self._encoders[key] = Encoder(schema)
        return found

    def _flush(self) -> None:
        self._scheduled = False
        waiting, self._waiting = self._waiting, {}
        written: list[asyncio.Future[None]] = []
        for encoder, rows in waiting.items():
            try:
                self._records.append(self._frame(encoder, rows))
            except Exception as error:  # noqa: BLE001  # whatever it is, nobody may wait for ever
                _resolve([future for _, _, future in rows], error)
                continue
            written += [future for _, _, future in rows]
        if written:
            self.when_safe(lambda error: _resolve(written, error))

    def _sync(self) -> None:
        self._payloads.sync()
        self._records.sync()

    def _frame(self, encoder: Encoder, rows: Sequence[tuple[Values, bytes, asyncio.Future[None]]]) -> bytes:
        names = [name for name, _ in encoder.schema.columns]
        columns = dict(zip(names, zip(*(values for values, _, _ in rows), strict=True), strict=True))
        first = min(columns["seq"]) if "seq" in columns else 0
        blobs = [blob for _, blob, _ in rows]
        return encoder.encode(
            run=self.run, first_seq=int(first), t_ns=self._clock.now_ns(), columns=columns, var=blobs
        )


def _error_of(done: asyncio.Future[None]) -> BaseException | None:
    return asyncio.CancelledError() if done.cancelled() else done.exception()


def _resolve(futures: Sequence[asyncio.Future[None]], error: BaseException | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def full(error: StoreError) -> BusyError:
    """Return the 503 of a log that cannot be written."""
    return BusyError(
        f"the prediction log cannot be written, so nothing is answered: {error.message}",
        code=error.code, at="log", retry_after=5.0,
    )  # fmt: skip
