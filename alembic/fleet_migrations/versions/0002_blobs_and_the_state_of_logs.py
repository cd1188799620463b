"""Blobs, the checkpoint a job goes on from, and what became of each log.

Revision 0002; after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blobs")),
    )
    op.add_column("jobs", sa.Column("checkpoint", sa.String(length=64), nullable=True))
    op.add_column("attempts", sa.Column("checkpoint", sa.String(length=64), nullable=True))
    op.add_column("attempts", sa.Column("log_state", sa.String(length=16), nullable=True))
    op.create_index(
        "ix_attempts_unclosed",
        "attempts",
        ["ended_at"],
        unique=False,
        sqlite_where=sa.text("log_state IS NULL"),
        postgresql_where=sa.text("log_state IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_attempts_unclosed", table_name="attempts")
    op.drop_column("attempts", "log_state")
    op.drop_column("attempts", "checkpoint")
    op.drop_column("jobs", "checkpoint")
    op.drop_table("blobs")
