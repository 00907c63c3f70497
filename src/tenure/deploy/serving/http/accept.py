"""Which of the forms that we can answer in a client likes best: the header `Accept`."""

from __future__ import annotations

import re
from collections.abc import Sequence

_RANGE = re.compile(r"([\w!#$&^.+*-]+)/([\w!#$&^.+*-]+)", re.ASCII)
_QUALITY = re.compile(r"q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.ASCII | re.IGNORECASE)
_Weight = tuple[float, int]  # quality, and how closely the range names the form


def preferred(accept: str, offers: Sequence[str]) -> str | None:
    """Return the media type among `offers` that a client likes best, None when it takes none of them.

    Quality values decide, then how closely a range names the type (`image/png` before `image/*` before `*/*`),
    then the order of the offers. Parameters other than `q` are ignored. A header without one well-formed range
    says nothing, as an absent one does: the first offer is taken (RFC 9110, 12.5.1).
    """
    ranges = _ranges(accept)
    if not ranges:
        return offers[0]
    weights = {offer: _weight(offer, ranges) for offer in offers}
    best = max(offers, key=lambda offer: weights[offer])  # of equals the first
    return best if weights[best][0] > 0 else None


def _ranges(accept: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for element in accept.split(","):
        name, _, parameters = element.partition(";")
        quality = _quality(parameters)
        if quality is not None and _RANGE.fullmatch(name.strip()):
            found[name.strip().lower()] = quality
    return found


def _quality(parameters: str) -> float | None:
    """Return the quality value, 1 without one, None when it is not well formed."""
    for parameter in map(str.strip, parameters.split(";")):
        if parameter[:1].lower() == "q" and parameter[1:].lstrip()[:1] == "=":
            matched = _QUALITY.fullmatch(parameter)
            return float(matched[1]) if matched else None
    return 1.0


def _weight(offer: str, ranges: dict[str, float]) -> _Weight:
    """Return the weight that the closest range gives to an offer; (0, 0) when none holds it."""
    for closeness, name in ((3, offer), (2, offer.partition("/")[0] + "/*"), (1, "*/*")):
        if name in ranges:
            return ranges[name], closeness
    return 0.0, 0
