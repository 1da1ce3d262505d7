"""Databases of nodes made in this process are copies of one that was migrated."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataspace.store.engine import Store


@pytest.fixture(scope="session", autouse=True)
def migrated_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A new database becomes a copy of the first one: all migrations together take as long as a
    whole test. Those that are there are migrated as ever, and so are nodes that are processes."""
    migrate, made = Store.migrate, tmp_path_factory.mktemp("migrated") / "node.sqlite"

    def migrate_or_copy(store: Store) -> None:
        scheme, path = store.url[: len("sqlite:///")], store.url[len("sqlite:///") :]
        if scheme != "sqlite:///" or not path or Path(path).exists():
            migrate(store)
            return
        if not made.exists():
            first = Store(f"sqlite:///{made}")
            migrate(first)
            # The last connection to go takes the write-ahead log along.
            first.close()
        shutil.copyfile(made, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "migrate", migrate_or_copy)
        yield
