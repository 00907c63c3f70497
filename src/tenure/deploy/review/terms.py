"""What a project's queue goes by: its endpoints' keys, and a secret that readers cannot foresee."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.review import store
from tenure.scope.project import EndpointSpec, Output, Review
from tenure.seeds import fresh_token

_SALT = "review.salt"
_PLAIN = Review()


@dataclass(frozen=True)
class Terms:
    """Keys and constants of one installation.

    Attributes:
        endpoints: what each endpoint wants of its readers.
        default: what an endpoint without an `output` of its own answers.
        salt: of the draws for second readers and gold, which reviewers cannot foresee.
        margin_us: a judgement this close to the deadline is no decision.
    """

    endpoints: Mapping[str, EndpointSpec]
    default: Output
    salt: str
    margin_us: int

    def review(self, endpoint: str) -> Review:
        """Return how an endpoint's judgements are collected; the defaults for one that is gone."""
        spec = self.endpoints.get(endpoint)
        return spec.review if spec is not None else _PLAIN

    def output(self, endpoint: str) -> Output:
        """Return what an endpoint answers."""
        spec = self.endpoints.get(endpoint)
        return (spec.output if spec is not None else None) or self.default


def salt(state: State) -> str:
    """Return this installation's salt, made once."""
    with state.begin() as conn:
        store.insert_missing(conn, t.meta, [{"key": _SALT, "value": fresh_token("s")}])
        return str(conn.execute(sa.select(t.meta.c.value).where(t.meta.c.key == _SALT)).scalar_one())
