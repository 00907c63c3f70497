"""The JSON of an answer that a classifier decided: written from a template, equal to what msgspec writes."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

_quote = msgspec.json.encode


class AutoReply:
    """Writes the answers that one version decides under one policy."""

    def __init__(self, version: str, policy: int, labels: tuple[str, ...]) -> None:
        names = [_quote(label).decode() for label in labels]
        told = f',"policy":{policy}' if policy else ""
        self._heads = [
            f'","status":"decided","decision":{{"value":{name},"by":"model","version":{_quote(version).decode()},'
            f'"confidence":'
            for name in names
        ]
        self._middles = [f'{told}}},"prediction":{{"value":{name},"confidence":' for name in names]
        self._chances = ',"probabilities":{' + ",".join(f"{_escaped(name)}:%.7g" for name in names) + "}}}"

    def write(self, public_id: str, best: int, chances: list[float]) -> bytes:
        """Return the reply's body.

        Args:
            public_id: id of the request.
            best: index of the label that is answered.
            chances: probability of each label.
        """
        confidence = f"{chances[best]:.7g}"
        text = (
            f'{{"id":"{public_id}{self._heads[best]}{confidence}{self._middles[best]}{confidence}'
            f"{self._chances % tuple(chances)}"
        )
        return text.encode()


def _escaped(name: str) -> str:
    return name.replace("%", "%%")


def iso(ns: int) -> str:
    """Return a wall time in nanoseconds as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
