"""lists begin with the newest, and what waits is found among all that has ended"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

INDEXES = (
    ("negotiation", "created_at"),
    ("agreement", "finalized_at"),
    ("agreement", "dataset"),
    ("transfer", "created_at"),
    ("transfer", "agreement"),
    ("computation", "created_at"),
    ("computation", "status"),
    ("checkpoint", "block"),
)


def upgrade() -> None:
    for table, column in INDEXES:
        op.create_index(f"ix_{table}_{column}", table, [column], unique=False)


def downgrade() -> None:
    for table, column in INDEXES:
        op.drop_index(f"ix_{table}_{column}", table_name=table)
