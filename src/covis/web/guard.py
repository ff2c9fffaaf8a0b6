"""Who is answered: the right host, no other website, and with `--host` only who has the token."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
READING = frozenset(("GET", "HEAD"))
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Of every answer: nothing is loaded from elsewhere, and nobody may frame or embed it."""


@dataclass(frozen=True)
class Door:
    """Where the server listens, and who may come in.

    host, port: as bound. token: None where only this machine can reach it.
    """

    host: str
    port: int
    token: str | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """What to open in a browser, with the token."""
        query = f"?token={self.token}" if self.token else ""
        return f"http://{self._shown}:{self.port}/{query}"

    @property
    def cookie(self) -> str:
        """Its name: cookies know no ports."""
        return f"covis_{self.port}"

    @property
    def _shown(self) -> str:
        host = "127.0.0.1" if self.host == "0.0.0.0" else "::1" if self.host == "::" else self.host
        return f"[{host}]" if ":" in host else host

    def knows(self, host: str | None) -> bool:
        """Whether a Host header names this server: another name for its address, which whoever owns
        that name has pointed here, does not."""
        try:
            parts = urlsplit(f"//{host or ''}")
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if port != self.port or parts.username is not None or parts.path:
            return False
        if name in LOOPBACK or name == self.host.lower():
            return True
        return self.host in ("0.0.0.0", "::") and _is_address(name)

    def admits(self, given: str | None) -> bool:
        """Whether the token is right, or none is needed; it takes as long for any wrong one."""
        if self.token is None:
            return True
        return hmac.compare_digest((given or "").encode(), self.token.encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Refuses, before anything is looked at, what does not come from covis' own page."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":  # There are none, so that none can be hijacked.
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(scope) or self._app
        await answer(scope, receive, headed)

    def _refusal(self, scope: Scope) -> Response | None:
        """What to answer in place of the app."""
        headers, door = Headers(scope=scope), self._door
        host, origin = headers.get("host"), headers.get("origin")
        if not door.knows(host):
            return _no(421, "this server goes by another name; open the address it printed.")
        if origin is not None and origin.lower() != f"http://{host}".lower():
            return _no(403, "asked for by another website.")
        if scope["method"] not in READING and origin is None:
            return _no(403, "not asked for by covis' own page.")
        opened = scope["path"] == "/" and headers.get("sec-fetch-mode", "navigate") == "navigate"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not opened:
            return _no(403, "asked for by another website.")
        if door.token is None:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if scope["path"] == "/" and given and door.admits(given[0]):
            answer = RedirectResponse("/", 303)  # Out of the address bar and the history.
            answer.set_cookie(door.cookie, given[0], httponly=True, samesite="lax")
            return answer
        if door.admits(_cookie(headers, door.cookie)):
            return None
        return _no(401, "open the address that 'covis web' printed, with its token.")


def _cookie(headers: Headers, name: str) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return None if found is None else found.value


def _no(status: int, why: str) -> Response:
    return PlainTextResponse(f"covis: {why}\n", status)
