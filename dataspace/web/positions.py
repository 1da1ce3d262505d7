"""Positions in the evidence log, as path and query parameters."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

# What every database can compare a position with.
MAX_INDEX = 2**53

Index = Annotated[int, Path(ge=0, le=MAX_INDEX)]
Position = Annotated[int, Query(ge=0, le=MAX_INDEX)]
