"""replicas on one database"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# What is counted for as long as a node lives: 32 bits end after a few busy years. SQLite's integers
# have 64 already.
_LONG = (
    ("process", "id"),
    ("log_state", "size"),
    ("log_node", "position"),
    ("entry", "position"),
    ("checkpoint", "size"),
    ("witnessed", "size"),
    ("witnessed", "cosigned_size"),
    ("erasure", "log_index"),
)


def _long() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "replica",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("life", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("beats", _long(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_replica")),
    )
    for table, column in (
        ("process", "leased_by"),
        ("process", "bound_to"),
        ("computation", "replica"),
    ):
        op.add_column(table, sa.Column(column, sa.String(), nullable=False, server_default=""))
    _widen(sa.BigInteger())


def downgrade() -> None:
    _widen(sa.Integer())
    for table, columns in (("computation", ["replica"]), ("process", ["bound_to", "leased_by"])):
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.drop_column(column)
    op.drop_table("replica")


def _widen(to: sa.types.TypeEngine[int]) -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, column in _LONG:
        op.alter_column(table, column, type_=to, existing_nullable=False)
    kind = "bigint" if isinstance(to, sa.BigInteger) else "integer"
    op.execute(f"ALTER SEQUENCE process_id_seq AS {kind}")
