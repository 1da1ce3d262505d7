"""privacy budgets"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "budget",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("consumer", sa.String(), nullable=False),
        sa.Column("spent", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "consumer", name=op.f("pk_budget")),
    )


def downgrade() -> None:
    op.drop_table("budget")
