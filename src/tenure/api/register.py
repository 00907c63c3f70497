"""Register a version of an endpoint; without a project file the endpoint is made from its first sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tenure import system
from tenure.api import adhoc
from tenure.api import sample as samples
from tenure.clock import SystemClock
from tenure.data.schema import Contract, InputSchema
from tenure.data.state import State
from tenure.deploy.rollout.ledger import Rollouts
from tenure.errors import ConflictError
from tenure.model.author import Stages
from tenure.model.build import Progress, silent
from tenure.model.code import end_of_script
from tenure.model.registry import Registry
from tenure.scope import rules
from tenure.scope.project import InputKind, Project


def register(
    endpoint: str,
    stages: Stages,
    *,
    sample: samples.Given,
    files: str | Path | None = None,
    labels: Sequence[str] | None = None,
    regions: bool = True,
    input: InputKind | None = None,
    name: str | None = None,
    code: Sequence[Path] = (),
    provenance: Mapping[str, Any] | None = None,
    pilot_scores: Mapping[str, Sequence[float]] | None = None,
    project: adhoc.Place = None,
    data: str | Path = adhoc.DATA,
    by: str | None = None,
    measure: bool = True,
    progress: Progress = silent,
) -> str:
    """Register a version of an endpoint and return its id, `name@sha8`; equal content has an equal id.

    The first version of an endpoint is put in force, which says who answers, not that it decides. Later ones
    are only registered: `tenure rollout start` brings them in.

    Args:
        endpoint: the name that clients call.
        stages: a class, object, function, path of a model file or MLflow folder, address of a remote model, or a
            list of (name, one of these).
        sample: an input as a client sends it: a path, a text, bytes or a record. It is answered now, and again
            wherever the version is loaded. Several records (a list) tell more about the fields.
        files: folder or file of weights, handed to the stages' `load`.
        labels: what the answers may say. Needed without a project file, unless the answers are numbers or carry
            probabilities, whose names the labels then are.
        regions: whether answers about images may carry boxes.
        input: image, audio, text or record, where the sample does not show it.
        name: of the version; by default that of the last stage.
        code: source files besides those that are found by following imports.
        provenance: where it comes from, kept with the version.
        pilot_scores: label -> confidences on unlabelled cases; fixes the grid of thresholds without a pilot.
        project: a project, a project file or a data folder; by default `tenure.yaml` here, else `data`.
        data: the folder of a project without a project file.
        by: who registers; by default the user's name.
        measure: measure latency and memory in a new process, which takes a second or two.
        progress: is told each step, in a few words.

    Raises:
        ModelError: the code or weights are refused, or the sample is not answered repeatably.
        CaseError: the sample is no valid input.
        ConflictError: the endpoint is known with other labels or another kind of input.
        MissingError: the project file has no such endpoint.
    """
    end_of_script()
    options = {
        "files": files, "name": name, "code": code, "provenance": provenance, "pilot_scores": pilot_scores,
        "by": by or adhoc.user(), "measured": measure, "progress": progress,
    }  # fmt: skip
    folder = _adhoc_folder(project, data)
    if folder is None:
        return _record(adhoc.find(project, data=data), endpoint, stages, sample, options)
    with adhoc.changing(folder) as known:
        if endpoint in known.endpoints:
            _check_same(known, endpoint, labels=labels, input=input)
        else:
            spec = samples.endpoint(
                stages, sample, files=files, labels=labels, regions=regions, input=input, trusted=known.trust
            )
            known = adhoc.with_endpoint(known, endpoint, spec)
        rules.check(known)
        version = _record(known, endpoint, stages, sample, options)
        adhoc.write(known)
    return version


def _adhoc_folder(project: adhoc.Place, data: str | Path) -> Path | None:
    """Return the data folder of a project without a file, None where there is a file."""
    if isinstance(project, Project):
        return None
    if project is None:
        return None if Path(adhoc.YAML).is_file() else Path(data)
    path = Path(project)
    if path.name == adhoc.FILE:
        return path.parent
    is_data = path.suffix not in (".yaml", ".yml") and not (path / adhoc.YAML).is_file()
    return path if is_data else None


def _check_same(
    project: Project, endpoint: str, *, labels: Sequence[str] | None, input: InputKind | None
) -> None:
    spec = project.endpoints[endpoint]
    known = project.output(endpoint).labels
    if labels is not None and tuple(labels) != known:
        raise ConflictError(
            f"{endpoint} answers {', '.join(known) or 'any text'}; other labels need another endpoint",
            at="labels",
        )
    if input is not None and input != spec.input:
        raise ConflictError(f"{endpoint} takes {spec.input}, not {input}", at="input")


def _record(
    project: Project, endpoint: str, stages: Stages, sample: samples.Given, options: dict[str, Any]
) -> str:
    spec = adhoc.endpoint_of(project, endpoint)
    folder = project.folder()
    system.prepare(folder)
    state = State.open(system.state_url(project), SystemClock())
    try:
        contract = Contract(InputSchema.of(spec), project.output(endpoint))
        registry = Registry(state, folder, contracts={endpoint: contract}, trusted=project.trust)
        version = registry.register(
            endpoint, stages, spec=spec, output=project.output(endpoint),
            sample=samples.as_sample(spec.input, sample),
            rows=sample if isinstance(sample, list | tuple) else (), **options,
        )  # fmt: skip
        put_first_in_force(state, project, registry, endpoint, by=options["by"])
    finally:
        state.close()
    return version


def put_first_in_force(state: State, project: Project, registry: Registry, endpoint: str, *, by: str) -> None:
    """Make an endpoint's only version the stable one; anything else is left alone."""
    versions = registry.list(endpoint)
    if len(versions) != 1:
        return
    rollouts = Rollouts(state, project.endpoints, case=project.scope.case)
    with state.begin() as conn:
        if rollouts.stable(conn, endpoint) is None and rollouts.active(conn, endpoint) is None:
            rollouts.set_stable(conn, endpoint, versions[0].id, by)
