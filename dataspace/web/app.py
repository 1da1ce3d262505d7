"""The node's web application: one process, one port, every face of the node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from dataspace import __version__
from dataspace.node import Node
from dataspace.operations.watching import Watching
from dataspace.settings import LogLevel
from dataspace.web import (
    administration,
    agreements,
    catalogue,
    claims,
    compute,
    consents,
    data,
    federation,
    management,
    members,
    negotiations,
    operations,
    operator,
    people,
    person_pages,
    policies,
    problems,
    progress,
    protocol,
    replica,
    returns,
    tlog,
    transfers,
    zones,
)
from dataspace.web.access import Declaration
from dataspace.web.declarations import declarations, describe_access
from dataspace.web.guests import Door
from dataspace.web.halted import Halted
from dataspace.web.headers import SecurityHeaders
from dataspace.web.limits import Limits

# What a route takes that says nothing else; above the limit of a message, so that it is the
# protocol's own error that tells a peer of it. Frames and rows say their own.
MAX_BODY_BYTES = 2 * 1024 * 1024

DESCRIPTION = """A connector node of a trusted city data space.

* **Dataspace Protocol** (`/dsp/2025-1`): catalogue, negotiation, transfer, for members.
* **compute** (`/compute`): frames of running computations, for their participants.
* **evidence log** (`/tlog`): checkpoint and tiles for everybody, entry bodies for regulators.
* **people's API** (`/api/people`, page `/me`): with an access code, for who is in a vault.
* **owner's API** (`/api`): with a key of this node, such as the one in the home's `keys/api.key`.

Errors are `application/problem+json` (RFC 9457) with a `remedy`.
"""


class _Application(FastAPI):
    """The framework's application with our headers around everything, its own errors included."""

    secure = False
    node: Node

    def build_middleware_stack(self) -> ASGIApp:
        app = SecurityHeaders(super().build_middleware_stack(), secure=self.secure)
        node = self.node
        return Watching(
            app,
            figures=node.figures,
            spans=node.spans,
            fields=node.log_fields,
            telling=node.home.settings.log_level is LogLevel.DEBUG,
        )


ROUTERS = (
    protocol.well_known,
    protocol.router,
    catalogue.router,
    catalogue.owner_router,
    federation.router,
    compute.router,
    replica.router,
    tlog.router,
    operator.router,
    members.router,
    members.owner_router,
    management.router,
    administration.router,
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
    claims.router,
    claims.owner_router,
    operations.router,
)


# By the routers, which live as long as the process does.
_known: dict[tuple[int, ...], Mapping[tuple[str, str], Declaration]] = {}


def _declared(routers: Sequence[APIRouter]) -> Mapping[tuple[str, str], Declaration]:
    """What the routes of these routers declare. Every application of a process has the same, and to
    find out takes as long as all else that is made here."""
    key = tuple(map(id, routers))
    if key not in _known:
        app = FastAPI()
        for router in routers:
            app.include_router(router)
        _known[key] = declarations(app)
    return _known[key]


def create_app(node: Node) -> FastAPI:
    """The application over `node`, which starts and stops with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(node.start)
        yield
        await run_in_threadpool(node.stop)

    app = _Application(
        title="City data space node",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        max_body_size=MAX_BODY_BYTES,
        # Their pages load scripts from elsewhere, which no page of a node does.
        docs_url=None,
        redoc_url=None,
    )
    app.node = node
    app.secure = node.home.url.startswith("https:")
    app.state.node = node
    app.state.door = Door()
    problems.install(app)
    app.add_middleware(Halted, rewind=node.rewind, refuse=problems.refusal)
    app.add_middleware(Limits, settings=node.home.settings, refuse=problems.refusal)
    for router in ROUTERS:
        app.include_router(router)

    describe_access(app, _declared(ROUTERS))
    return app
