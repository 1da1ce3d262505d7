"""The node's web application: one process, one port, every face of the node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from dataspace import __version__
from dataspace.access.permissions import Caller
from dataspace.node import Node
from dataspace.web import (
    agreements,
    catalogue,
    compute,
    consents,
    data,
    federation,
    management,
    negotiations,
    operator,
    people,
    person_pages,
    policies,
    problems,
    progress,
    protocol,
    returns,
    tlog,
    transfers,
    zones,
)
from dataspace.web.access import For, describe_access
from dataspace.web.guests import Door

# The largest body any route takes is a chunk of a frame; messages have their own, smaller limit.
MAX_BODY_BYTES = 9 * 1024 * 1024

DESCRIPTION = """A connector node of a trusted city data space.

* **Dataspace Protocol** (`/dsp/2025-1`): catalogue, negotiation, transfer, for members.
* **compute** (`/compute`): frames of running computations, for their participants.
* **evidence log** (`/tlog`): checkpoint and tiles for everybody, entry bodies for regulators.
* **people's API** (`/api/people`, page `/me`): with an access code, for who is in a vault.
* **owner's API** (`/api`): with the key in the home's `keys/api.key`.

Errors are `application/problem+json` (RFC 9457) with a `remedy`.
"""


def create_app(node: Node) -> FastAPI:
    """The application over `node`, which starts and stops with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(node.start)
        yield
        await run_in_threadpool(node.stop)

    app = FastAPI(
        title="City data space node",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        max_body_size=MAX_BODY_BYTES,
    )
    app.state.node = node
    app.state.door = Door()
    problems.install(app)
    for router in (
        protocol.well_known,
        protocol.router,
        catalogue.router,
        catalogue.owner_router,
        federation.router,
        compute.router,
        tlog.router,
        operator.router,
        management.router,
        progress.router,
        policies.router,
        negotiations.router,
        agreements.router,
        agreements.peer_router,
        transfers.router,
        returns.router,
        data.router,
        consents.router,
        people.router,
        person_pages.router,
        zones.router,
        zones.owner_router,
    ):
        app.include_router(router)

    @app.get("/health", tags=["discovery"], dependencies=[For(Caller.ANYBODY)])
    async def health() -> JSONResponse:
        """Whether the node answers and its workers work; 503 when they do not."""
        healthy = node.engine.healthy()
        body = {"status": "ok" if healthy else "workers have stopped", "did": node.did}
        return JSONResponse(body, 200 if healthy else 503)

    describe_access(app)
    return app
