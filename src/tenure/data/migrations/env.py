"""Alembic's entry: runs the revisions on the connection that it was handed, inside its transaction."""

from __future__ import annotations

from alembic import context

from tenure.data.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
