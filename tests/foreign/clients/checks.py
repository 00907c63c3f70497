"""Run the checks of a client script: each named function is called once, its name is printed when it passed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

URL, TOKEN = sys.argv[1], sys.argv[2]
HEADERS = {"Authorization": f"Bearer {TOKEN}"}  # give a copy: tritonclient writes into what it is given


def run(client: Any, *checks: Callable[[Any], Any]) -> None:
    """Run plain checks."""
    for check in checks:
        check(client)
        print(check.__name__, flush=True)


async def run_async(client: Any, *checks: Callable[[Any], Any]) -> None:
    """Run coroutine checks one after the other."""
    for check in checks:
        await check(client)
        print(check.__name__, flush=True)


def same(got: Any, wanted: Any) -> None:
    """Fail with both values when they differ."""
    if got != wanted:
        raise AssertionError(f"expected {wanted!r}, got {got!r}")


def refused(call: Callable[[], Any], *, status: str, start: str) -> None:
    """Fail unless a call raises the client's own error with this status and beginning."""
    from tritonclient.utils import InferenceServerException

    try:
        result = call()
    except InferenceServerException as error:
        same((error.status(), error.message()[: len(start)]), (status, start))
        return
    raise AssertionError(f"expected an error that begins with {start!r}, got {result!r}")
