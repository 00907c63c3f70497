"""The functions of `scipy.special`, which is imported when one is first used.

Its import takes 0.15 s, a tenth of a server's start, and nothing needs it before the first evidence is judged.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    from scipy import special

    found = globals()[name] = getattr(special, name)
    return found
