"""Every error that tenure raises on purpose.

```
TenureError            500  a fault of ours, unless a subclass says otherwise
├── ProjectError       exit 2  the project file is wrong (all faults at once)
├── CaseError          4xx  what a caller sent cannot be used
├── AccessError        401/403
├── MissingError       404
├── ConflictError      409  the thing is in another state than the command needs
├── BusyError          503  overload or a full log; carries retry_after
├── ModelError         a bundle, stage or answer of a model is wrong
└── StoreError         the log or the state database cannot be read or written
```
"""

from __future__ import annotations

from collections.abc import Sequence


class TenureError(Exception):
    """What was wrong, where (`at`), and a stable machine-readable `code`."""

    status = 500
    default_code = "internal"

    def __init__(self, message: str, *, code: str | None = None, at: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.at = at

    def body(self) -> dict[str, str | None]:
        """Return the wire form that every door uses."""
        return {"error": self.message, "code": self.code, "at": self.at}


class ProjectError(TenureError):
    """The project file is wrong; `faults` lists every fault as `file:line: message`."""

    status = 422
    default_code = "project_invalid"

    def __init__(self, faults: Sequence[str], *, at: str | None = None) -> None:
        super().__init__("\n".join(faults), at=at)
        self.faults = tuple(faults)


class CaseError(TenureError):
    """What a caller sent cannot be used: 400, 413, 415 or 422."""

    status = 422
    default_code = "invalid_case"

    def __init__(
        self, message: str, *, code: str | None = None, at: str | None = None, status: int = 422
    ) -> None:
        super().__init__(message, code=code, at=at)
        self.status = status


class AccessError(TenureError):
    """The caller is unknown (401) or may not do this (403)."""

    status = 403
    default_code = "forbidden"

    def __init__(
        self, message: str, *, code: str | None = None, at: str | None = None, status: int = 403
    ) -> None:
        super().__init__(message, code=code, at=at)
        self.status = status


class MissingError(TenureError):
    """The named thing does not exist."""

    status = 404
    default_code = "not_found"


class ConflictError(TenureError):
    """The thing is in another state than the command needs."""

    status = 409
    default_code = "conflict"


class BusyError(TenureError):
    """Overload, a full log, or not ready yet; try again after `retry_after` seconds."""

    status = 503
    default_code = "overloaded"

    def __init__(
        self, message: str, *, code: str | None = None, at: str | None = None, retry_after: float = 1.0
    ) -> None:
        super().__init__(message, code=code, at=at)
        self.retry_after = retry_after


class ModelError(TenureError):
    """A bundle, a stage or the answer of a model breaks its contract."""

    status = 422
    default_code = "model_invalid"


class StoreError(TenureError):
    """The prediction log or the state database cannot be read or written."""

    status = 503
    default_code = "store_failed"
