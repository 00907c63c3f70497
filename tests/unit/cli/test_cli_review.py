"""The commands about readers and gold items, on a project of their own."""

from __future__ import annotations

import json

from cli_shell import Shell


def test_readers_and_gold_of_an_empty_queue(mail: Shell) -> None:
    done = mail("review", "stats", "--json")
    assert done.code == 0
    assert json.loads(done.out) == {
        "readers": [],
        "conventions": {"pairs": [], "confusions": [], "habits": [], "clarify": "too few double readings to say"},
    }
    assert mail("review", "gold", "list").code == 0
    missing = mail("review", "gold", "add", "none")
    assert missing.code != 0
    assert "there is no review item 'none'" in missing.err
