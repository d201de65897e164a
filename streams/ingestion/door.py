"""What the door answers to POST /webhooks/{tenant}/{tool}: verified on raw bytes before anything is parsed, durable before 202.

| answer | when |
|---|---|
| 200 text | the tool tries the webhook's address and its plugin knows how to answer (`handshake`): no event |
| 202 {"event_id"} | durable: acknowledged by the broker, or fsynced in the spool |
| 401 | not authentic, or not from the tenant's `webhook.addresses`: nothing was parsed, nothing is kept but the count |
| 404 | no such tenant or tool, or another path |
| 405 | not a POST |
| 413 | the body is over the bound, by its Content-Length or while it is read; or the broker will never take it |
| 503 + Retry-After | nothing can be made durable now, or the tool's settings cannot verify anything: the tool is to send it again |

A delivery that is authentic but cannot be read is accepted under a hash key; the stage route sets it aside with its reason.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from time import perf_counter_ns, time_ns
from typing import Protocol
from urllib.parse import unquote

from plugins.api import Delivery, TicketingToolPlugin, WebhookRejected
from streams.ingestion.coalescer import Coalescer, Durable, Refused, Unavailable
from streams.ingestion.counts import Counts
from streams.ingestion.verify import CannotVerify, answers_handshakes, handshake, received
from streams.topics import MAX_BODY_BYTES

log = logging.getLogger("ai_agents.ingestion")

Names = tuple[str, str]
"""Tenant and tool, or as much of them as is configured: what callers invent is never counted under."""

_NOBODY: Names = ("", "")
_RETRY_AFTER = b"retry-after: 2\r\n"
_REASONS = {
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}
_HANDSHAKE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\ncontent-length: %d\r\n"
_ACCEPTED_HEAD = b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 51\r\n"


class Tools(Protocol):
    """The tools deliveries may come from. `at` is epoch microseconds; calls are fast and do no I/O."""

    @property
    def source(self) -> str:
        """Where they are known from: "none", "last known" (from disk) or "live"; only then is an unknown name surely unknown."""
        ...

    def plugin(self, tenant: str, tool: str, at: int) -> TicketingToolPlugin | None:
        """The plugin bound to a tenant's tool; None when there is no such tool. Raises PluginConfigError."""
        ...

    def is_tenant(self, tenant: str, at: int) -> bool:
        """Whether the tenant is configured."""
        ...


class Refusal(Exception):
    """Ends a request with something else than 202; counted under `reason`. The text goes to the caller; `headers` are whole lines."""

    def __init__(self, status: int, reason: str, detail: str, names: Names = _NOBODY, headers: bytes = b"") -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.names = names
        self.headers = headers

    def response(self) -> tuple[bytes, bytes]:
        """The head, without its last empty line, and the body."""
        body = json.dumps({"error": self.reason, "detail": str(self)}).encode()
        line = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        return line % (self.status, _REASONS[self.status], len(body)) + self.headers, body


Answer = Callable[[bytes, bytes], None]
"""Takes a response: its head without the last empty line, and its body."""


class Door:
    """Decides on requests that a connection has read. Nothing here waits: the answer is called when the event is durable."""

    def __init__(self, tools: Tools, coalescer: Coalescer, counts: Counts, *, max_body: int = MAX_BODY_BYTES) -> None:
        self._tools = tools
        self._coalescer = coalescer
        self._counts = counts
        self.max_body = max_body

    def refuse(self, refusal: Refusal) -> tuple[bytes, bytes]:
        """Counts the refusal and answers its response."""
        self._counts.refuse(*refusal.names, refusal.reason)
        return refusal.response()

    def admit(self, method: bytes, path: bytes, content_length: int) -> TicketingToolPlugin:
        """The tool that a request's head addresses, before its body is read; raises Refusal."""
        parts = path.split(b"/")
        if len(parts) != 4 or parts[1] != b"webhooks":
            raise Refusal(404, "unknown", "deliveries go to /webhooks/{tenant}/{tool}")
        if method not in (b"POST", b"GET"):
            raise _not_by_post()
        tenant, tool = parts[2].decode("latin-1"), parts[3].decode("latin-1")
        if b"%" in path:
            tenant, tool = unquote(tenant), unquote(tool)
        at = time_ns() // 1000
        try:
            plugin = self._tools.plugin(tenant, tool, at)
        except Exception as exc:  # noqa: BLE001 - a plugin that cannot be built is its tenant's trouble, never the door's end
            raise _misconfigured((tenant, tool), exc) from None
        if method == b"GET" and (plugin is None or not answers_handshakes(plugin)):
            raise _not_by_post()
        if plugin is None:
            names = (tenant, "") if self._tools.is_tenant(tenant, at) else _NOBODY
            if self._tools.source != "live":
                raise Refusal(503, "starting", "not every tenant is known yet; send it again", names, _RETRY_AFTER)
            raise Refusal(404, "unknown", "no such tenant or tool", names)
        if content_length > self.max_body:
            raise self.too_large(plugin)
        return plugin

    def too_large(self, plugin: TicketingToolPlugin) -> Refusal:
        """The body is over the bound."""
        return Refusal(413, "too_large", f"a body may have {self.max_body} bytes", (plugin.context.tenant, plugin.context.tool))

    def overloaded(self, plugin: TicketingToolPlugin) -> Refusal:
        """More bodies are being read at once than memory is meant for."""
        names = (plugin.context.tenant, plugin.context.tool)
        return Refusal(503, "overloaded", "too many bodies are being read; send it again", names, _RETRY_AFTER)

    def deliver(
        self,
        plugin: TicketingToolPlugin,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        query: bytes,
        answer: Answer,
        method: str = "POST",
        peer: str = "",
    ) -> None:
        """Takes a whole request; the answer is called once, now or when the event is durable."""
        started = perf_counter_ns()
        names = (plugin.context.tenant, plugin.context.tool)
        texts = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        delivery = Delivery(
            tenant=names[0],
            tool=names[1],
            body=body,
            headers=texts,
            content_type=texts.get("content-type", ""),
            query=query.decode("latin-1"),
            method=method,
            received_at=time_ns() // 1000,
            peer=peer,
        )
        try:
            if method != "POST":
                self._shake_hands(plugin, delivery, answer)
                return
            event_id, record = received(plugin, delivery)
            if answers_handshakes(plugin) and (challenge := handshake(plugin, delivery)) is not None:
                answer(_HANDSHAKE_HEAD % len(challenge), challenge)
                return
        except WebhookRejected as exc:
            answer(*self.refuse(Refusal(401, exc.reason, str(exc), names, b"www-authenticate: Webhook-Signature\r\n")))
            return
        except CannotVerify as exc:
            answer(*self.refuse(_misconfigured(names, exc)))
            return

        def settled(how: Durable | Exception) -> None:
            if isinstance(how, Durable):
                counts = self._counts.of(names)
                if how is Durable.BROKER:
                    counts.accepted += 1
                else:
                    counts.spooled += 1
                self._counts.answered((perf_counter_ns() - started) / 1e9)
                answer(_ACCEPTED_HEAD, b'{"event_id":"%b"}' % event_id.encode())
            elif isinstance(how, Refused):
                answer(*self.refuse(Refusal(413, "too_large", str(how), names)))
            else:
                answer(*self.refuse(Refusal(503, "unavailable", f"{how}; send it again", names, _RETRY_AFTER)))

        try:
            self._coalescer.take(record, settled)
        except Unavailable as exc:
            settled(exc)

    def _shake_hands(self, plugin: TicketingToolPlugin, delivery: Delivery, answer: Answer) -> None:
        """A GET of a tool that tries the webhook's address; raises WebhookRejected."""
        found = handshake(plugin, delivery)
        if found is None:
            answer(*self.refuse(_not_by_post()))
        else:
            answer(_HANDSHAKE_HEAD % len(found), found)


def _not_by_post() -> Refusal:
    return Refusal(405, "method", "deliveries are sent by POST", _NOBODY, b"allow: POST\r\n")


def _misconfigured(names: Names, exc: Exception) -> Refusal:
    log.error("tenant %s tool %s cannot verify deliveries: %s", *names, exc)
    return Refusal(503, "misconfigured", "this tool's settings cannot verify deliveries; the door's log says why", names, _RETRY_AFTER)


def early(status: int, reason: str) -> Refusal:
    """What a connection refuses by itself: a head too large or too slow, or a connection too many."""
    return Refusal(status, reason, reason.replace("_", " "), _NOBODY, _RETRY_AFTER if status == 503 else b"")
