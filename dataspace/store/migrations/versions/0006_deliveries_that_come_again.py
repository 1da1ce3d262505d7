"""deliveries that come again"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "return",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("consumer", sa.String(), nullable=False),
        sa.Column("division", sa.String(), nullable=False),
        sa.Column("grid", sa.String(), nullable=True),
        sa.Column("rules", sa.JSON(), nullable=False),
        sa.Column("every_s", sa.Float(), nullable=False),
        sa.Column("negotiation", sa.String(), nullable=False),
        sa.Column("transfer", sa.String(), nullable=True),
        sa.Column("next_due_at", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_return")),
    )
    op.create_index(op.f("ix_return_negotiation"), "return", ["negotiation"], unique=False)
    op.create_table(
        "delivery",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("transfer", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("moved", sa.JSON(), nullable=True),
        sa.Column("began_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("transfer", "number", name=op.f("pk_delivery")),
    )
    with op.batch_alter_table("transfer") as batch_op:
        batch_op.add_column(sa.Column("token_until", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("coming", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("transfer") as batch_op:
        batch_op.drop_column("coming")
        batch_op.drop_column("token_until")

    op.drop_table("delivery")
    op.drop_index(op.f("ix_return_negotiation"), table_name="return")
    op.drop_table("return")
