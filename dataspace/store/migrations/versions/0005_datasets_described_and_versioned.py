"""datasets described and versioned"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dataset_version",
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content_version", sa.String(), nullable=False),
        sa.Column("noticed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "number", name=op.f("pk_dataset_version")),
    )
    with op.batch_alter_table("dataset") as batch_op:
        batch_op.add_column(sa.Column("title_zh", sa.String(), server_default="", nullable=False))
        batch_op.add_column(
            sa.Column("description_zh", sa.String(), server_default="", nullable=False)
        )
        batch_op.add_column(sa.Column("theme", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("division", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("frequency", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("conditions", sa.JSON(), server_default="[]", nullable=False))
        batch_op.add_column(sa.Column("blocks", sa.JSON(), nullable=True))
        batch_op.add_column(
            sa.Column("source_schema", sa.JSON(), server_default="[]", nullable=False)
        )
        batch_op.add_column(sa.Column("quality", sa.JSON(), server_default="[]", nullable=False))
        batch_op.add_column(
            sa.Column("classification", sa.String(), server_default="proposed", nullable=False)
        )
        batch_op.add_column(sa.Column("legal_basis", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("checked_at", sa.Float(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("dataset") as batch_op:
        batch_op.drop_column("checked_at")
        batch_op.drop_column("legal_basis")
        batch_op.drop_column("classification")
        batch_op.drop_column("quality")
        batch_op.drop_column("source_schema")
        batch_op.drop_column("blocks")
        batch_op.drop_column("conditions")
        batch_op.drop_column("frequency")
        batch_op.drop_column("division")
        batch_op.drop_column("theme")
        batch_op.drop_column("description_zh")
        batch_op.drop_column("title_zh")

    op.drop_table("dataset_version")
