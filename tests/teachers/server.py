"""A chat server on loopback that behaves as badly as it is told: real sockets, in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Request:
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    number: int
    """Counted from 0, over all connections."""
    at: float = field(default_factory=time.monotonic)

    @property
    def prompt(self) -> str:
        return self.body["messages"][-1]["content"]


@dataclass
class Reply:
    """What goes back."""

    body: dict[str, Any] | bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    is_reset: bool = False
    """Close without a byte."""
    num_bytes: int | None = None
    """Break off after so many bytes of the body."""
    num_blank_lines: int = 0
    """Blank lines before the body, one every `blank_line_s`."""
    blank_line_s: float = 0.01
    then: Callable[[], None] | None = None
    """Called when the last byte was handed to the socket."""


def answer(text: str | None = "fine", finish_reason: str | None = "stop", **changes: Any) -> Reply:
    """A chat completion; `changes` replaces its keys, `message` those of its message."""
    message = {"role": "assistant", "content": text, **changes.pop("message", {})}
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return Reply({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage, **changes})


def error(status: int, message: str = "no", headers: dict[str, str] | None = None, **more: Any) -> Reply:
    """An error as OpenAI words it."""
    return Reply({"error": {"message": message, "type": "some_error", **more}}, status, headers or {})


class Server:
    """Asks a function what to do with each request. Use it as `with Server(function) as server`."""

    def __init__(self, behave: Callable[[Request], Reply]) -> None:
        self.requests: list[Request] = []
        self.url = ""
        self._behave = behave
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.connections: set[_Connection] = set()

    def __enter__(self) -> Server:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=2048)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def _stop(self) -> None:
        self._server.close()
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(0)

    def take(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
        request = Request(path, headers, body, len(self.requests))
        self.requests.append(request)
        return self._behave(request)


class _Connection(asyncio.Protocol):
    """Requests of one connection, one after another."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = b""
        self._is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if data[:1] == b"\x16":  # a TLS greeting
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            self._transport.close()
            return
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator or self._is_busy:
            return
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._received = rest[length:]
        reply = self._server.take(first.split(" ")[1], headers, json.loads(rest[:length] or b"{}"))
        if reply.delay_s or reply.num_blank_lines:
            self._is_busy = True
            self._task = asyncio.ensure_future(self._reply_slowly(reply))
        else:
            self._reply(reply)

    async def _reply_slowly(self, reply: Reply) -> None:
        await asyncio.sleep(reply.delay_s)
        if reply.num_blank_lines:
            self._transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(reply.num_blank_lines):
                self._transport.write(b"1\r\n\n\r\n")
                await asyncio.sleep(reply.blank_line_s)
            body = json.dumps(reply.body).encode()
            self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        else:
            self._reply(reply)
        self._is_busy = False

    def _reply(self, reply: Reply) -> None:
        if reply.is_reset or self._transport.is_closing():
            self._transport.abort()
        else:
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **reply.headers}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            self._transport.write(f"HTTP/1.1 {reply.status} X\r\n{lines}\r\n".encode() + body[: reply.num_bytes])
            if reply.num_bytes is not None:
                self._transport.close()
        if reply.then is not None:
            reply.then()
