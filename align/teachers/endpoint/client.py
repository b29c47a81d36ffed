"""Chat client: one request to a chat endpoint, and whatever becomes of it as a line of the rule table."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from align.store.redact import REDACTED, redact
from align.teachers.endpoint.pool import Patience
from align.teachers.endpoint.provider import Place
from align.teachers.endpoint.reply import Reply, error_message, read_reply
from align.teachers.endpoint.retry_after import seconds_to_wait
from align.teachers.endpoint.rules import RULES, by_status

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

LARGEST_REPLY = 16 * 1024 * 1024
"""Bytes; the longest answer that a provider sells has about 400,000 tokens."""


class ChatClient:
    """Connections to the endpoints of one teacher. The key goes out in the header and nowhere else."""

    def __init__(self, place: Place, patience: Patience) -> None:
        self._place = place
        self._patience = patience
        self._session: ClientSession | None = None

    async def send(self, url: str, payload: bytes) -> tuple[Reply, float | None]:
        """Post one request; what came back, whatever it is, and the seconds that Retry-After asks for."""
        import aiohttp

        try:
            async with self._opened().post(f"{url}/chat/completions", data=payload, allow_redirects=False) as response:
                body = await self._body(response)
                if body is None:
                    return Reply(RULES["too_large"]), None
                if response.status == 200:
                    return read_reply(body), None
                text = body.decode(errors="replace")
                wait_s = seconds_to_wait(response.headers.get("Retry-After"))
                return Reply(by_status(response.status, text), str(redact(error_message(text)))), wait_s
        except (aiohttp.ClientError, TimeoutError, asyncio.TimeoutError, OSError) as error:
            return Reply(RULES[_seen(error)], str(redact(str(error)))), None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _body(self, response: ClientResponse) -> bytes | None:
        """The whole body, without the key if a server repeats it; None if it is too large."""
        chunks, num_bytes = [], 0
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            num_bytes += len(chunk)
            if num_bytes > LARGEST_REPLY:
                response.close()
                return None
        body = b"".join(chunks)
        key = self._place.key
        return body.replace(key.reveal().encode(), REDACTED.encode()) if key else body

    def _opened(self) -> ClientSession:
        """The session, opened at the first request, since it belongs to the event loop."""
        import aiohttp

        if self._session is None:
            headers = {"Content-Type": "application/json"}
            if self._place.key is not None:
                headers["Authorization"] = f"Bearer {self._place.key.reveal()}"
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4),  # uvicorn, so vLLM, closes after 5 s
                timeout=aiohttp.ClientTimeout(total=self._patience.reply_s, sock_connect=self._patience.connect_s),
                headers=headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=not all(_is_local(url) for url in self._place.urls),
            )
        return self._session


def _seen(error: BaseException) -> str:
    """The slug of a connection that failed, before or after the request was sent."""
    import aiohttp

    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ClientConnectorCertificateError):
        return "tls"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "connect_timeout"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connection_refused"
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        return "timeout"
    return "truncated_body" if isinstance(error, aiohttp.ClientPayloadError) else "reset"


def _is_local(url: str) -> bool:
    """No proxy stands between a process and its own machine."""
    host = url.split("://", 1)[-1].split("/", 1)[0].rsplit(":", 1)[0]
    return host in ("localhost", "127.0.0.1", "[::1]")
