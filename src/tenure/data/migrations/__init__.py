"""Alembic revisions of the control state; `python -m tenure.data.migrations` writes them."""
