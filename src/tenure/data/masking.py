"""What the project masks: fields whose values nobody gets unasked, and units that such a field names.

Inside the data folder everything is as it came. What leaves it, exports and data sets, has no masked field
unless somebody who may asks for them with a reason, which the audit trail keeps.

A field is dropped and not hashed: a hash of the few values that most fields have is guessed at once, and it is of
another type. A unit has to tell the rows of one person from those of others, so it becomes a keyed hash; the key
stays in the data folder.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import msgspec

from tenure.scope.project import EndpointSpec, Project

UNIT = "unit"
_DIGITS = 24


class Mask(msgspec.Struct, frozen=True):
    """What must not leave.

    Attributes:
        fields: names of the record's fields.
        key: what units are hashed with; empty = they leave as they are.
    """

    fields: frozenset[str] = frozenset()
    key: bytes = b""

    def record(self, value: Any) -> Any:
        """Return an input without the masked fields; anything but a record is what it was."""
        if not self.fields or not isinstance(value, dict):
            return value
        return {name: one for name, one in value.items() if name not in self.fields}

    def unit(self, text: str) -> str:
        """Return what stands for a unit: the same for the same."""
        if not self.key or not text:
            return text
        return hmac.new(self.key, b"unit:" + text.encode(), hashlib.sha256).hexdigest()[:_DIGITS]

    def names(self) -> tuple[str, ...]:
        """Return what is masked, for people: fields, and `unit` where it is hashed."""
        return (*sorted(self.fields), *((UNIT,) if self.key else ()))


NOTHING = Mask()


def fields_of(spec: EndpointSpec) -> Mask:
    """Return what an endpoint masks, without regard to units."""
    return Mask(frozenset(name for name, field in spec.fields.items() if field.masked))


def mask_of(project: Project, endpoint: str, key: bytes) -> Mask:
    """Return what must not leave with an endpoint's inputs; units too where `data.unit` names a masked field."""
    mask = fields_of(project.endpoints[endpoint])
    return msgspec.structs.replace(mask, key=key) if project.data.unit in mask.fields else mask
