"""What a node still answers after its log was found to be rewound: who it is, how it stands, and
its log as it is. Everything else would write or sign."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from dataspace.rewind import REMEDY, Rewind
from dataspace.web.limits import Refuse

# A founder's chain goes on: the others anchor in it, and it is what says that the log was rewound.
READ: Final = ("/tlog/", "/.well-known/", "/operator/space", "/health", "/ready", "/metrics")
OWNERS: Final = (
    "/api/status",
    "/api/readiness",
    "/api/why",
    "/api/log",
    "/api/processes",
    "/api/computations",
    "/api/chain",
)
ALWAYS: Final = ("/chain",)


class Halted:
    """Refuses with 503 what a node with a rewound log must not do."""

    def __init__(self, app: ASGIApp, *, rewind: Rewind, refuse: Refuse) -> None:
        self._app, self._rewind, self._refuse = app, rewind, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        standing = self._rewind.standing
        if scope["type"] != "http" or standing is None or standing.sound or _may(scope):
            await self._app(scope, receive, send)
            return
        request, status = Request(scope), HTTPStatus.SERVICE_UNAVAILABLE
        answer = self._refuse(request, status, standing.sentence(), REMEDY, {})
        await answer(scope, receive, send)


def _may(scope: Scope) -> bool:
    path, reads = scope["path"], scope["method"] in ("GET", "HEAD")
    return path.startswith(ALWAYS) or (reads and path.startswith(READ + OWNERS))
