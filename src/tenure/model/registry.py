"""The versions of all endpoints: bundles in the data folder, rows in the state database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.schema import Contract, breaks
from tenure.data.state import State, dumps
from tenure.errors import ConflictError, MissingError, ModelError
from tenure.model import author, build, bundle, manifest
from tenure.model.bundle import Bundle, Code, Sample
from tenure.model.code import end_of_script
from tenure.model.manifest import StageRef
from tenure.model.trust import NOTHING
from tenure.scope.project import EndpointSpec, Output, Trust


class Version(msgspec.Struct, frozen=True):
    """A registered version; `state` is registered, live or retired."""

    id: str
    endpoint: str
    name: str
    sha: str
    state: str
    created_us: int
    created_by: str
    provenance: dict[str, Any]


class Registry:
    """Registers, finds and retires versions. A version's id is `name@sha8`; equal content has an equal id."""

    def __init__(
        self,
        state: State,
        folder: Path,
        *,
        contracts: Mapping[str, Contract] | None = None,
        trusted: Trust = NOTHING,
    ) -> None:
        """Open the registry over a data folder.

        `contracts` are what the project file promises per endpoint; a version that breaks it is refused.
        `trusted` is the operator's word on files that may run code, from the project file.
        """
        self._state = state
        self.folder = folder
        self._contracts = dict(contracts or {})
        self.trusted = trusted

    def register(
        self,
        endpoint: str,
        stages: author.Stages,
        *,
        spec: EndpointSpec,
        output: Output,
        sample: Sample | Path | str | bytes | Mapping[str, Any],
        files: str | Path | None = None,
        code: Sequence[Path | Code] = (),
        name: str | None = None,
        by: str = "local",
        provenance: Mapping[str, Any] | None = None,
        pilot_scores: Mapping[str, Sequence[float]] | None = None,
        rows: Sequence[Mapping[str, Any]] = (),
        measured: bool = False,
        progress: build.Progress = build.silent,
    ) -> str:
        """Make a version of a class, object, function, model file or [(name, one of these)]; return its id.

        `stages` may also be a list of `StageRef` with `code` naming their source. A record endpoint without
        declared fields gets those of `rows`, else of the sample. `name` is that of the last stage unless given.
        `measured` and `progress` are as of `build.build`.

        Raises:
            ModelError: as `build.build`, or clients of the live version could not use it.
            CaseError: the sample is not a valid input.
        """
        end_of_script()
        ready = author.as_sample(spec.input, sample)
        spec, notes = author.with_fields(spec, ready, rows)
        for note in notes:
            progress(f"fields: {note}")
        refs, own = _references(stages, spec, output)
        made = build.build(
            self.folder,
            endpoint=endpoint,
            name=name or refs[-1].name.lower(),
            stages=refs,
            sample=ready,
            spec=spec,
            output=output,
            code=[*own, *code],
            files=author.files_of(stages, files),
            provenance=provenance,
            pilot_scores=pilot_scores,
            trusted=self.trusted,
            measured=measured,
            progress=progress,
            clock=self._state.clock,
        )
        return self._record(made, by=by)

    def register_files(
        self,
        parent: str,
        files: Path,
        *,
        by: str,
        provenance: Mapping[str, Any] | None = None,
        pilot_scores: Mapping[str, Sequence[float]] | None = None,
    ) -> str:
        """Make a version with the code and sample of `parent` and new weights, as retraining does; return its id.

        Raises:
            MissingError: no such parent.
            ModelError: as `build.build`.
        """
        old = self.get(parent)
        said = old.manifest
        made = build.build(
            self.folder,
            endpoint=said.endpoint,
            name=said.name,
            stages=said.stages,
            sample=Sample((old.path / said.sample.file).read_bytes(), said.sample.media_type),
            spec=EndpointSpec(input=said.input.kind, fields=said.input.fields),
            output=said.output,
            code=[old.code],
            files=files,
            provenance={"parent": parent, **(provenance or {})},
            pilot_scores=pilot_scores,
            trusted=self.trusted,
            clock=self._state.clock,
        )
        return self._record(made, by=by)

    def register_bundle(
        self,
        endpoint: str,
        made: Path | Bundle,
        *,
        by: str,
        name: str | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> str:
        """Take in a finished bundle folder and return its version's id; the same content twice is one version.

        Every byte is checked and the sample is replayed before anything is written.

        Raises:
            ModelError: the bundle is broken, is of another endpoint, may run code on loading, answers its sample
                differently, or clients of the live version could not use it.
        """
        found = made if isinstance(made, Bundle) else bundle.open_bundle(made)
        if found.manifest.endpoint != endpoint:
            raise ModelError(
                f"the bundle is of endpoint {found.manifest.endpoint!r}, not {endpoint!r}", at="endpoint"
            )
        self._refuse_break(found)
        adopted = build.adopt(found, self.folder, trusted=self.trusted)
        return self._record(adopted, by=by, name=name, provenance=provenance)

    def get(self, version: str) -> Bundle:
        """Return a registered version's bundle, verified.

        Raises:
            MissingError: no such version.
        """
        return bundle.open_bundle(self.folder / bundle.FOLDER / self.describe(version).sha)

    def describe(self, version: str) -> Version:
        """Return what is registered about a version; raises MissingError."""
        with self._state.read() as conn:
            return _one(conn, version)

    def list(self, endpoint: str | None = None) -> list[Version]:
        """Return the versions of an endpoint (None = all), oldest first."""
        query = sa.select(t.versions).order_by(t.versions.c.created_us, t.versions.c.id)
        if endpoint is not None:
            query = query.where(t.versions.c.endpoint == endpoint)
        with self._state.read() as conn:
            return [_version(row) for row in conn.execute(query).mappings()]

    def live(self, endpoint: str) -> str | None:
        """Return the version that is marked live, None when there is none."""
        with self._state.read() as conn:
            return _live(conn, endpoint)

    def set_live(self, conn: Connection, endpoint: str, version: str | None) -> None:
        """Mark the one live version of an endpoint, inside the caller's transaction.

        Raises:
            MissingError: no such version.
            ConflictError: it is of another endpoint, or retired.
        """
        if version is not None:
            found = _one(conn, version)
            if found.endpoint != endpoint or found.state == "retired":
                raise ConflictError(f"{version} cannot go live on {endpoint}: {found.state} on {found.endpoint}")
        c = t.versions.c
        conn.execute(
            t.versions.update().where(c.endpoint == endpoint, c.state == "live").values(state="registered")
        )
        conn.execute(t.versions.update().where(c.id == version).values(state="live"))

    def retire(self, version: str, *, by: str) -> None:
        """Take a version out of choice; its bundle stays, since the log refers to it.

        Raises:
            MissingError: no such version.
            ConflictError: it is live.
        """
        with self._state.begin() as conn:
            found = _one(conn, version)
            if found.state == "live":
                raise ConflictError(
                    f"{version} is live; roll out or roll back to another version first", at=version
                )
            conn.execute(t.versions.update().where(t.versions.c.id == version).values(state="retired"))
            self._state.audit(conn, actor=by, action="version.retire", subject=version)

    def _record(
        self, made: Bundle, *, by: str, name: str | None = None, provenance: Mapping[str, Any] | None = None
    ) -> str:
        row = self._row(made, name=manifest.check_name(name or made.manifest.name), by=by, extra=provenance or {})
        version = str(row["id"])
        c = t.versions.c
        with self._state.begin() as conn:
            self._check_contract(conn, made)
            known = conn.execute(sa.select(c.state).where(c.id == version)).scalar()
            if known in ("registered", "live"):
                return version
            if known is None:
                conn.execute(t.versions.insert().values(**row))
            else:
                conn.execute(t.versions.update().where(c.id == version).values(state="registered"))
            self._state.audit(
                conn, actor=by, action="version.register", subject=version, detail={"sha": made.sha}
            )
        return version

    def _row(self, made: Bundle, *, name: str, by: str, extra: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": f"{name}@{made.sha[: bundle.SHORT]}",
            "endpoint": made.manifest.endpoint,
            "name": name,
            "sha": made.sha,
            "manifest": made.manifest.text().decode(),
            "provenance": dumps({**made.manifest.provenance, **extra}),
            "state": "registered",
            "created_us": self._state.now_us(),
            "created_by": by,
        }

    def _refuse_break(self, made: Bundle) -> None:
        with self._state.read() as conn:
            self._check_contract(conn, made)

    def _check_contract(self, conn: Connection, made: Bundle) -> None:
        endpoint, new = made.manifest.endpoint, made.manifest.contract
        promised = self._contracts.get(endpoint)
        if promised is not None:
            _refuse(breaks(_filled(promised, new), new), f"it does not fit endpoint {endpoint!r}", endpoint)
        version = _live(conn, endpoint)
        if version is None:
            return
        text = conn.execute(sa.select(t.versions.c.manifest).where(t.versions.c.id == version)).scalar_one()
        live, _ = manifest.parse(text.encode())
        _refuse(breaks(live.contract, new), f"clients of {version} could not use it", endpoint)


def refuses_partial(conn: Connection, version: str) -> str | None:
    """Say why a registered version can never be `partial`, None when it may earn it or is not known."""
    text = conn.execute(sa.select(t.versions.c.manifest).where(t.versions.c.id == version)).scalar()
    if text is None:
        return None
    try:
        return manifest.refuses_partial(manifest.parse(str(text).encode())[0])
    except ModelError:  # one that cannot be read is refused where the version is loaded
        return None


def _refuse(faults: Sequence[str], what: str, endpoint: str) -> None:
    if faults:
        raise ModelError(f"{what}: {'; '.join(faults)}", at=endpoint, code="incompatible_schema")


def _filled(promised: Contract, new: Contract) -> Contract:
    """Return the promise; a record endpoint that declares no fields takes those of its versions."""
    if promised.input.fields or new.input.kind != promised.input.kind:
        return promised
    return Contract(new.input, promised.output)


def _references(
    stages: author.Stages, spec: EndpointSpec, output: Output
) -> tuple[Sequence[StageRef], Sequence[Code]]:
    if isinstance(stages, list | tuple) and stages and all(isinstance(s, StageRef) for s in stages):
        return stages, ()
    return author.describe(stages, spec=spec, output=output)


def _live(conn: Connection, endpoint: str) -> str | None:
    c = t.versions.c
    found = conn.execute(sa.select(c.id).where(c.endpoint == endpoint, c.state == "live")).scalar()
    return None if found is None else str(found)


def _one(conn: Connection, version: str) -> Version:
    row = conn.execute(sa.select(t.versions).where(t.versions.c.id == version)).mappings().first()
    if row is None:
        raise MissingError(f"no version {version!r} is registered", at=version)
    return _version(row)


def _version(row: Mapping[str, Any] | sa.RowMapping) -> Version:
    keys = ("id", "endpoint", "name", "sha", "state", "created_us", "created_by")
    return Version(**{k: row[k] for k in keys}, provenance=json.loads(row["provenance"]))
