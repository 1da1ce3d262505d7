"""credentials that can be revoked"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "participant",
        sa.Column("standing", sa.String(), nullable=False, server_default="active"),
    )
    op.add_column("participant", sa.Column("standing_at", sa.Float(), nullable=True))
    op.add_column("participant", sa.Column("standing_reason", sa.Text(), nullable=True))
    op.create_table(
        "credential_status",
        sa.Column("list_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("did", sa.String(), nullable=False),
        sa.Column("issued_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("list_number", "position", name=op.f("pk_credential_status")),
    )
    op.create_index(op.f("ix_credential_status_did"), "credential_status", ["did"])
    op.create_table(
        "status_list",
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("url", name=op.f("pk_status_list")),
    )
    op.create_table(
        "known_status",
        sa.Column("did", sa.String(), nullable=False),
        sa.Column("entries", sa.JSON(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("did", name=op.f("pk_known_status")),
    )
    op.create_table(
        "signing_key",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("thumbprint", sa.String(), nullable=False),
        sa.Column("algorithm", sa.String(), nullable=False),
        sa.Column("jwk", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("announced_at", sa.Float(), nullable=False),
        sa.Column("used_at", sa.Float(), nullable=True),
        sa.Column("replaced_at", sa.Float(), nullable=True),
        sa.Column("retired_at", sa.Float(), nullable=True),
        sa.Column("withdrawn_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("thumbprint", name=op.f("pk_signing_key")),
    )


def downgrade() -> None:
    op.drop_table("signing_key")
    op.drop_table("known_status")
    op.drop_table("status_list")
    op.drop_index(op.f("ix_credential_status_did"), "credential_status")
    op.drop_table("credential_status")
    with op.batch_alter_table("participant") as batch:
        batch.drop_column("standing_reason")
        batch.drop_column("standing_at")
        batch.drop_column("standing")
