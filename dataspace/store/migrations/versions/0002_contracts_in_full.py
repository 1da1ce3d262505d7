"""contracts in full"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("agreement", schema=None) as batch_op:
        batch_op.add_column(sa.Column("provider_signature", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("consumer_signature", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("keys", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("renews", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("ended_at", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("ended_by", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("ended_reason", sa.String(), nullable=True))

    with op.batch_alter_table("dataset", schema=None) as batch_op:
        batch_op.add_column(sa.Column("formats", sa.JSON(), server_default="[]", nullable=False))
        batch_op.add_column(sa.Column("withdrawn_at", sa.Float(), nullable=True))
        batch_op.create_index("ix_dataset_created_at_id", ["created_at", "id"], unique=False)

    with op.batch_alter_table("invitation", schema=None) as batch_op:
        batch_op.add_column(sa.Column("zones", sa.JSON(), server_default="[]", nullable=False))

    with op.batch_alter_table("negotiation", schema=None) as batch_op:
        batch_op.add_column(sa.Column("peer_zones", sa.JSON(), server_default="[]", nullable=False))
        batch_op.add_column(sa.Column("provider_signature", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("consumer_signature", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("rounds", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("waiting", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("approval", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("renews", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("clause", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("remedy", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("deadline_at", sa.Float(), nullable=True))
        batch_op.alter_column("offer", existing_type=sa.JSON(), nullable=True)

    with op.batch_alter_table("participant", schema=None) as batch_op:
        batch_op.add_column(sa.Column("zones", sa.JSON(), server_default="[]", nullable=False))

    with op.batch_alter_table("process", schema=None) as batch_op:
        batch_op.create_index("ix_process_lane_state_id", ["lane", "state", "id"], unique=False)

    with op.batch_alter_table("transfer", schema=None) as batch_op:
        batch_op.add_column(sa.Column("purpose", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("peer_kind", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("peer_zones", sa.JSON(), server_default="[]", nullable=False))
        batch_op.add_column(sa.Column("data_address", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("token_h", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("moved", sa.JSON(), nullable=True))
        batch_op.create_index(batch_op.f("ix_transfer_token_h"), ["token_h"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("transfer", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_transfer_token_h"))
        batch_op.drop_column("moved")
        batch_op.drop_column("token_h")
        batch_op.drop_column("data_address")
        batch_op.drop_column("peer_zones")
        batch_op.drop_column("peer_kind")
        batch_op.drop_column("purpose")

    with op.batch_alter_table("process", schema=None) as batch_op:
        batch_op.drop_index("ix_process_lane_state_id")

    with op.batch_alter_table("participant", schema=None) as batch_op:
        batch_op.drop_column("zones")

    with op.batch_alter_table("negotiation", schema=None) as batch_op:
        batch_op.alter_column("offer", existing_type=sa.JSON(), nullable=False)
        batch_op.drop_column("deadline_at")
        batch_op.drop_column("remedy")
        batch_op.drop_column("clause")
        batch_op.drop_column("renews")
        batch_op.drop_column("approval")
        batch_op.drop_column("waiting")
        batch_op.drop_column("rounds")
        batch_op.drop_column("consumer_signature")
        batch_op.drop_column("provider_signature")
        batch_op.drop_column("peer_zones")

    with op.batch_alter_table("invitation", schema=None) as batch_op:
        batch_op.drop_column("zones")

    with op.batch_alter_table("dataset", schema=None) as batch_op:
        batch_op.drop_index("ix_dataset_created_at_id")
        batch_op.drop_column("withdrawn_at")
        batch_op.drop_column("formats")

    with op.batch_alter_table("agreement", schema=None) as batch_op:
        batch_op.drop_column("ended_reason")
        batch_op.drop_column("ended_by")
        batch_op.drop_column("ended_at")
        batch_op.drop_column("renews")
        batch_op.drop_column("keys")
        batch_op.drop_column("consumer_signature")
        batch_op.drop_column("provider_signature")
