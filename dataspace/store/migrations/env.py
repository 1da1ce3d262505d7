"""Alembic's entry: runs the migrations over the connection the node hands in."""

from alembic import context
from sqlmodel import SQLModel

from dataspace.store import tables

assert tables  # imported for its side effect: the tables register themselves

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    compare_type=True,
    # All revisions in one transaction, on SQLite too: an upgrade that fails in its midst leaves the
    # schema and the rows of before. The connection begins transactions itself.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
