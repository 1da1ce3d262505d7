"""what a repeated message said, and a peer's open negotiations"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("received", schema=None) as batch_op:
        batch_op.add_column(sa.Column("message_h", sa.String(), nullable=True))
    with op.batch_alter_table("negotiation", schema=None) as batch_op:
        batch_op.create_index("ix_negotiation_peer_state", ["peer", "state"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("negotiation", schema=None) as batch_op:
        batch_op.drop_index("ix_negotiation_peer_state")
    with op.batch_alter_table("received", schema=None) as batch_op:
        batch_op.drop_column("message_h")
