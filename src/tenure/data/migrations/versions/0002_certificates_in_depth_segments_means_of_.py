"""Certificates in depth, segments, means of gates, gold items, judgements that wait."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Go one revision forward; there is no way back but the backup that was made before."""
    op.create_table(
        "gold_draws",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("reader", sa.String(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("gold_draws", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_gold_draws_item"), ["item"], unique=False)
        batch_op.create_index(batch_op.f("ix_gold_draws_reader"), ["reader"], unique=False)

    op.create_table(
        "gold_items",
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("truth", sa.Text(), nullable=False),
        sa.Column("added_us", sa.BigInteger(), nullable=False),
        sa.Column("added_by", sa.String(), nullable=False),
        sa.Column("retired_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("item"),
    )
    with op.batch_alter_table("gold_items", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_gold_items_endpoint"), ["endpoint"], unique=False)

    op.create_table(
        "mean_sums",
        sa.Column("rollout", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("gate", sa.String(), nullable=False),
        sa.Column("arm", sa.Integer(), nullable=False),
        sa.Column("live", sa.Text(), nullable=False),
        sa.Column("looked", sa.Text(), nullable=False),
        sa.Column("look", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "step", "gate", "arm"),
    )
    op.create_table(
        "mean_units",
        sa.Column("rollout", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("gate", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("arm", sa.Integer(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("y", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "step", "gate", "unit", "turn", "arm"),
    )
    op.create_table(
        "waiting_judgements",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    with op.batch_alter_table("waiting_judgements", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_waiting_judgements_at_us"), ["at_us"], unique=False)

    with op.batch_alter_table("certificates", schema=None) as batch_op:
        batch_op.add_column(sa.Column("segment", sa.String(), server_default="", nullable=False))
        batch_op.add_column(sa.Column("decisions", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("decided", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("evidence", sa.Text(), server_default="", nullable=False))
        batch_op.add_column(sa.Column("audit_losses", sa.Text(), server_default="", nullable=False))

    with op.batch_alter_table("item_predictions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("contributions", sa.Text(), nullable=True))

    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.add_column(sa.Column("final", sa.Integer(), server_default="0", nullable=False))

    with op.batch_alter_table("levels", schema=None) as batch_op:
        batch_op.add_column(sa.Column("segment", sa.String(), server_default="", nullable=False))

    with op.batch_alter_table("lineages", schema=None) as batch_op:
        batch_op.add_column(sa.Column("segment", sa.String(), server_default="", nullable=False))

    with op.batch_alter_table("policies", schema=None) as batch_op:
        batch_op.add_column(sa.Column("segment", sa.String(), server_default="", nullable=False))

    with op.batch_alter_table("review_items", schema=None) as batch_op:
        batch_op.add_column(sa.Column("segment", sa.String(), server_default="", nullable=False))
        batch_op.add_column(sa.Column("escalated", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("missed_us", sa.BigInteger(), nullable=True))
        batch_op.drop_index(
            batch_op.f("ix_review_turn"), sqlite_where=sa.text("state IN ('open', 'judged', 'conflict')")
        )
        batch_op.create_index(
            "ix_review_oldest",
            ["endpoint", "escalated", "created_us", "number"],
            unique=False,
            sqlite_where=sa.text("state IN ('open', 'judged', 'conflict') AND priority > -500000000"),
            postgresql_where=sa.text("state IN ('open', 'judged', 'conflict') AND priority > -500000000"),
        )
        batch_op.create_index(
            "ix_review_place",
            ["endpoint", "escalated", "pending", sa.literal_column("priority DESC"), "number"],
            unique=False,
            sqlite_where=sa.text("state IN ('open', 'judged', 'conflict')"),
            postgresql_where=sa.text("state IN ('open', 'judged', 'conflict')"),
        )
