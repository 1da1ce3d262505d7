"""Positions in the evidence log and in lists, as path and query parameters."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from dataspace.store.paging import MAX_LISTED

# What every database can compare a position with.
MAX_INDEX = 2**53

Index = Annotated[int, Path(ge=0, le=MAX_INDEX)]
Position = Annotated[int, Query(ge=0, le=MAX_INDEX)]
Limit = Annotated[int, Query(ge=1, le=MAX_LISTED, description="at most so many, newest first")]
