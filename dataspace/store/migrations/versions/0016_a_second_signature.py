"""a second, post-quantum signature of each side beside the first"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_COLUMNS = ("provider_post_quantum", "consumer_post_quantum")


def upgrade() -> None:
    for table in ("negotiation", "agreement"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            for name in _COLUMNS:
                batch_op.add_column(sa.Column(name, sa.Text(), nullable=True))


def downgrade() -> None:
    for table in ("negotiation", "agreement"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            for name in _COLUMNS:
                batch_op.drop_column(name)
