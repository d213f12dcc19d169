"""Protection of the app's server: it answers only requests for its own names, from its own pages, outside foreign frames.

Streamlit checks names on the websocket alone, and accepts every port of this machine as its own origin; this middleware checks
all routes. docs/decisions/0004-streamlit-server-settings.md explains which setting is where, and why.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.cli_util import open_browser
from streamlit.web.server.server_util import get_display_address, get_url, is_allowed_origin
from streamlit.web.server.starlette.starlette_websocket import is_host_allowed

HEADERS = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' data: blob:; frame-ancestors 'none'; "
    "base-uri 'self'; form-action 'self'",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
"""Headers of every response: no content from other servers is loaded, and no other page can frame, embed or script this one.

`unsafe-inline` and `blob:` are needed because Streamlit's own page has an inline script and inline styles, and mounts
components from `blob:` addresses.
"""
HOST = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.IGNORECASE)
"""The form of a valid `Host` header: a name or an address, and optionally a port."""
OTHER_NAME = (
    "This server does not go by that name. The settings server.allowedHosts in .streamlit/config.toml name those it goes by; "
    "for another one start it with --server.allowedHosts NAME.\n"
)
OTHER_ORIGIN = "Requests from pages of other servers are refused; server.corsAllowedOrigins names exceptions.\n"


class Guard:
    """ASGI middleware in front of all of Streamlit: refuses foreign names and origins, and adds `HEADERS` to responses."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a refusal, or pass the request on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                MutableHeaders(raw=message["headers"]).update(HEADERS)
            await send(message)

        problem = refusal(Headers(scope=scope))
        if problem is None:
            await self.app(scope, receive, send_guarded)
        elif scope["type"] == "websocket":
            await send(
                {"type": "websocket.close", "code": 1008}
            )  # sent before the socket is accepted, so the answer is 403
        else:
            await PlainTextResponse(problem, status_code=403)(scope, receive, send_guarded)


def refusal(headers: Headers) -> str | None:
    """The reason for which a request is refused; None if it is not.

    The port of `Host` is not checked: a port forwarded from another machine differs from the server's.
    """
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]) or not is_host_allowed(hosts[0]):
        return OTHER_NAME
    own = (f"http://{hosts[0]}", f"https://{hosts[0]}")
    foreign = [origin for origin in origins if origin not in own and not is_allowed_origin(origin)]
    return OTHER_ORIGIN if foreign or len(origins) > 1 else None


@asynccontextmanager
async def browser_opened(_app: st.App) -> AsyncIterator[None]:
    """Open the page in a browser if there is a display, as `streamlit run` does for a plain script."""
    if not st.get_option("server.headless"):
        address = get_display_address(st.get_option("server.address") or "localhost")
        asyncio.get_running_loop().call_soon(open_browser, get_url(address))
    yield


GUARDED = [Middleware(Guard)]
