"""zones with members"""

import json
import time

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "zone",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("title_zh", sa.String(), nullable=False),
        sa.Column("about", sa.String(), nullable=False),
        sa.Column("steward", sa.String(), nullable=True),
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_zone")),
    )
    op.create_table(
        "zone_member",
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("did", sa.String(), nullable=False),
        sa.Column("admitted_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("zone", "did", name=op.f("pk_zone_member")),
    )
    op.create_index(op.f("ix_zone_member_did"), "zone_member", ["did"], unique=False)
    op.create_table(
        "zone_policy",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("document_h", sa.String(), nullable=False),
        sa.Column("put_by", sa.String(), nullable=False),
        sa.Column("put_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("zone", "name", name=op.f("pk_zone_policy")),
    )
    op.create_table(
        "zone_list",
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("zone", name=op.f("pk_zone_list")),
    )
    op.create_table(
        "following",
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("document_h", sa.String(), nullable=False),
        sa.Column("followed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("dataset", name=op.f("pk_following")),
    )
    _make_lists_of_what_was_said()
    with op.batch_alter_table("participant") as batch_op:
        batch_op.drop_column("zones")
    with op.batch_alter_table("negotiation") as batch_op:
        batch_op.drop_column("peer_zones")
    with op.batch_alter_table("transfer") as batch_op:
        batch_op.drop_column("peer_zones")


def _make_lists_of_what_was_said() -> None:
    """The zones that participants were given with their invitations become lists of them."""
    connection, now = op.get_bind(), time.time()
    members = [
        (zone, did)
        for did, zones in connection.execute(sa.text("SELECT did, zones FROM participant"))
        for zone in _names(zones)
    ]
    invited = connection.execute(sa.text("SELECT zones FROM invitation WHERE used_by IS NULL"))
    named = {zone for zone, _ in members} | {zone for (zones,) in invited for zone in _names(zones)}
    for zone in sorted(named):
        connection.execute(
            sa.text(
                "INSERT INTO zone (version, name, title, title_zh, about, serial, created_at) "
                "VALUES (1, :zone, :zone, '', '', 0, :now)"
            ),
            {"zone": zone, "now": now},
        )
    for zone, did in members:
        connection.execute(
            sa.text("INSERT INTO zone_member (zone, did, admitted_at) VALUES (:zone, :did, :now)"),
            {"zone": zone, "did": did, "now": now},
        )


def _say_what_the_lists_said() -> None:
    connection = op.get_bind()
    zones: dict[str, list[str]] = {}
    for zone, did in connection.execute(sa.text("SELECT zone, did FROM zone_member ORDER BY zone")):
        zones.setdefault(did, []).append(zone)
    for did, names in zones.items():
        connection.execute(
            sa.text("UPDATE participant SET zones = :zones WHERE did = :did"),
            {"zones": json.dumps(names), "did": did},
        )


def _names(zones: str | list[str]) -> list[str]:
    # JSON comes as text from SQLite and read from PostgreSQL.
    return sorted(set(json.loads(zones) if isinstance(zones, str) else zones))


def downgrade() -> None:
    for table in ("transfer", "negotiation"):
        with op.batch_alter_table(table) as batch_op:
            batch_op.add_column(
                sa.Column("peer_zones", sa.JSON(), server_default="[]", nullable=False)
            )
    with op.batch_alter_table("participant") as batch_op:
        batch_op.add_column(sa.Column("zones", sa.JSON(), server_default="[]", nullable=False))
    _say_what_the_lists_said()
    op.drop_table("following")
    op.drop_table("zone_list")
    op.drop_table("zone_policy")
    op.drop_index(op.f("ix_zone_member_did"), table_name="zone_member")
    op.drop_table("zone_member")
    op.drop_table("zone")
