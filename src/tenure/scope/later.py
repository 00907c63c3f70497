"""What people may expect in a project file that nothing enforces yet: refused with a sentence, never ignored."""

from __future__ import annotations

from typing import get_args, get_type_hints

from tenure.scope.project import (
    AlarmSpec,
    CertificateSpec,
    EndpointSpec,
    Lost,
    Privacy,
    Project,
    Scope,
    Serve,
)


def _choices(struct: type, field: str) -> tuple[str, ...]:
    return get_args(get_type_hints(struct)[field])


_LEVEL = _choices(Privacy, "level")
_DOWN = _choices(CertificateSpec, "down")
_DRIFT = _choices(AlarmSpec, "drift")

NOT_YET: dict[tuple[object, str], str] = {
    (Serve, "workers"): "is one number for all endpoints; write it under server",
    (Serve, "mode"): "only online serving is enforced yet; leave the key out",
    (Lost, "then"): "is always human_only; leave the key out",
    (EndpointSpec, "risks"): "is not enforced yet; write thresholds and alarms under monitor",
    (Scope, "owner"): "is not enforced yet; leave the key out",
    (Scope, "resources"): "is not enforced yet; write people and reviews_per_hour under budget",
    (Scope, "timeline"): "write it under budget",
    (Project, "automation"): "belongs to each endpoint; write it under endpoints.NAME",
    (Privacy, "erase_by"): "erasing by unit is not enforced yet; leave the key out",
    (_LEVEL, "secret"): ": encryption at rest is not enforced yet; do not log such data with this version",
    (_LEVEL, "sensitive"): ": redaction is not enforced yet; do not log such data with this version",
    (_LEVEL, "high"): ": encryption at rest is not enforced yet; do not log such data with this version",
    (_DRIFT, "concept"): ": not built yet: concept drift needs late labels; use data or any",
    (_DOWN, "approve"): ": a level always drops by itself when its certificate falls",
}
