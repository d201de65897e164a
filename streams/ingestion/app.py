"""The door itself, raw ASGI: POST /webhooks/{tenant}/{tool}, verified on raw bytes before anything is parsed, durable before 202.

| answer | when |
|---|---|
| 202 {"event_id"} | durable: acknowledged by the broker, or fsynced in the spool |
| 401 | not authentic: nothing was parsed, nothing is kept but the count |
| 404 | no such tenant or tool, or another path |
| 405 | not a POST |
| 413 | the body is over the bound, by its Content-Length or while it is read; or the broker will never take it |
| 503 + Retry-After | nothing can be made durable now, or the tool's settings cannot verify anything: the tool is to send it again |

A delivery that is authentic but cannot be read is accepted under a hash key; the stage route sets it aside with its reason.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter_ns, time_ns
from typing import Any, Protocol

from plugins.api import Delivery, TicketingToolPlugin, WebhookRejected
from streams.ingestion.coalescer import Coalescer, Durable, Refused, Unavailable
from streams.ingestion.counts import Counts
from streams.ingestion.spool import Record
from streams.ingestion.verify import CannotVerify, received
from streams.topics import MAX_BODY_BYTES

log = logging.getLogger("ai_agents.ingestion")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Names = tuple[str, str]
"""Tenant and tool, or as much of them as is configured: what callers invent is never counted under."""

READING_BYTES = 128 << 20
_JSON = (b"content-type", b"application/json")
_RETRY_AFTER = (b"retry-after", b"2")
_NOBODY: Names = ("", "")


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


class _Answer(Exception):
    """Ends a request with something else than 202; counted under `reason`. The text goes to the caller."""

    def __init__(self, status: int, reason: str, detail: str, names: Names = _NOBODY, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.names = names
        self.headers = headers


class Door:
    """The ASGI application."""

    def __init__(
        self,
        tools: Tools,
        coalescer: Coalescer,
        counts: Counts,
        *,
        max_body: int = MAX_BODY_BYTES,
    ) -> None:
        self._tools = tools
        self._coalescer = coalescer
        self._counts = counts
        self._max_body = max_body
        self._reading = 0  # bytes of bodies that come in several pieces and are not yet whole
        self._accepted_headers = [_JSON, (b"content-length", b"%d" % len(_accepted("0" * 36)))]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter_ns()
        received_at = time_ns() // 1000
        try:
            plugin = self._addressed(scope, received_at)
            names = (plugin.context.tenant, plugin.context.tool)
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            body = await self._body(headers, receive, names)
            if body is None:
                return  # the client is gone, and nobody was promised anything
            event_id, record = _verified(
                plugin,
                Delivery(
                    tenant=names[0],
                    tool=names[1],
                    body=body,
                    headers=headers,
                    content_type=headers.get("content-type", ""),
                    query=scope["query_string"].decode("latin-1"),
                    received_at=received_at,
                ),
            )
            how = await self._durable(record, names)
        except _Answer as answer:
            self._counts.refuse(*answer.names, answer.reason)
            await _refuse(send, answer)
            return
        counts = self._counts.of(names)
        if how is Durable.BROKER:
            counts.accepted += 1
        else:
            counts.spooled += 1
        self._counts.answered((perf_counter_ns() - started) / 1e9)
        await send({"type": "http.response.start", "status": 202, "headers": self._accepted_headers})
        await send({"type": "http.response.body", "body": _accepted(event_id)})

    def refused_early(self, reason: str) -> None:
        """Counts a request that ended before it reached the application."""
        self._counts.refuse("", "", reason)

    def _addressed(self, scope: Scope, at: int) -> TicketingToolPlugin:
        parts = scope["path"].split("/")
        if len(parts) != 4 or parts[1] != "webhooks":
            raise _Answer(404, "unknown", "deliveries go to /webhooks/{tenant}/{tool}")
        if scope["method"] != "POST":
            raise _Answer(405, "method", "deliveries are sent by POST", _NOBODY, (b"allow", b"POST"))
        tenant, tool = parts[2], parts[3]
        try:
            plugin = self._tools.plugin(tenant, tool, at)
        except Exception as exc:  # noqa: BLE001 - a plugin that cannot be built is its tenant's trouble, never the door's end
            raise _misconfigured((tenant, tool), exc) from None
        if plugin is not None:
            return plugin
        names = (tenant, "") if self._tools.is_tenant(tenant, at) else _NOBODY
        if self._tools.source != "live":
            raise _Answer(503, "starting", "not every tenant is known yet; send it again", names, _RETRY_AFTER)
        raise _Answer(404, "unknown", "no such tenant or tool", names)

    async def _body(self, headers: dict[str, str], receive: Receive, names: Names) -> bytes | None:
        """The whole body, never more than the bound; None when the client went away."""
        length = headers.get("content-length")
        if length is not None and int(length) > self._max_body:  # the parser lets only digits through
            raise self._too_large(names)
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        if not message.get("more_body"):
            body: bytes = message["body"]
            if len(body) > self._max_body:
                raise self._too_large(names)
            return body
        pieces, size = [], 0
        try:
            while True:
                pieces.append(message["body"])
                size += len(message["body"])
                self._reading += len(message["body"])
                if size > self._max_body:
                    raise self._too_large(names)
                if self._reading > READING_BYTES:
                    raise _Answer(503, "overloaded", "too many bodies are being read; send it again", names, _RETRY_AFTER)
                if not message.get("more_body"):
                    return b"".join(pieces)
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
        finally:
            self._reading -= size

    def _too_large(self, names: Names) -> _Answer:
        return _Answer(413, "too_large", f"a body may have {self._max_body} bytes", names)

    async def _durable(self, record: Record, names: Names) -> Durable:
        try:
            return await self._coalescer.offer(record)
        except Unavailable as exc:
            raise _Answer(503, "unavailable", f"{exc}; send it again", names, _RETRY_AFTER) from None
        except Refused as exc:
            raise _Answer(413, "too_large", str(exc), names) from None


def _verified(plugin: TicketingToolPlugin, delivery: Delivery) -> tuple[str, Record]:
    try:
        return received(plugin, delivery)
    except WebhookRejected as exc:
        names = (delivery.tenant, delivery.tool)
        raise _Answer(401, exc.reason, str(exc), names, (b"www-authenticate", b"Webhook-Signature")) from None
    except CannotVerify as exc:
        raise _misconfigured((delivery.tenant, delivery.tool), exc) from None


def _misconfigured(names: Names, exc: Exception) -> _Answer:
    log.error("tenant %s tool %s cannot verify deliveries: %s", *names, exc)
    return _Answer(503, "misconfigured", "this tool's settings cannot verify deliveries; the door's log says why", names, _RETRY_AFTER)


def _accepted(event_id: str) -> bytes:
    return b'{"event_id":"%b"}' % event_id.encode()


async def _refuse(send: Send, answer: _Answer) -> None:
    body = json.dumps({"error": answer.reason, "detail": str(answer)}).encode()
    headers = [_JSON, (b"content-length", b"%d" % len(body)), *answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
