"""credentials held and asked for"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "held_credential",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("credential_id", sa.String(), nullable=True),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("jwt", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("received_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_held_credential")),
    )
    op.create_index("ix_held_credential_issuer", "held_credential", ["issuer"])
    op.create_table(
        "asked_credential",
        sa.Column("holder_pid", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("issuer_pid", sa.String(), nullable=True),
        sa.Column("types", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("holder_pid", name=op.f("pk_asked_credential")),
    )
    op.create_index("ix_asked_credential_issuer", "asked_credential", ["issuer"])
    op.create_table(
        "credential_offer",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("objects", sa.JSON(), nullable=False),
        sa.Column("offered_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credential_offer")),
    )
    op.create_index("ix_credential_offer_issuer", "credential_offer", ["issuer"])
    op.create_table(
        "credential_request",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("issuer_pid", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("holder_pid", sa.String(), nullable=False),
        sa.Column("objects", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("access", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("issuer_pid", name=op.f("pk_credential_request")),
    )
    op.create_index("ix_credential_request_holder", "credential_request", ["holder"])


def downgrade() -> None:
    for table in ("credential_request", "credential_offer", "asked_credential", "held_credential"):
        op.drop_index(
            f"ix_{table}_{'holder' if table == 'credential_request' else 'issuer'}", table
        )
        op.drop_table(table)
