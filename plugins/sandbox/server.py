"""What all sandboxes share: the door, the faults, the ledger, the webhooks out, the control calls. A vendor adds its protocol.

Control calls, outside the tool's own paths: `GET /_ledger[?after=n]`, `POST|GET|DELETE /_faults`, `POST|GET /_webhook`, `GET
/_health`, `POST /_people/tickets` and `PUT /_people/tickets/{id}` (a person works in the tool, in canonical words), `POST
/_redeliver` {"count": n} (the newest delivered webhooks go out again, as a tool does that missed our answer) and `POST /_deliver`
{"body": text} (any text, correctly signed).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from plugins.sandbox.faults import Fault, Faults
from plugins.sandbox.http import HttpServer, Request, Response, json_response, routes_of
from plugins.sandbox.ledger import Ledger
from plugins.sandbox.process import SandboxProcess
from plugins.sandbox.state import Journal
from plugins.sandbox.webhooks import Outbox, RetryPolicy

__all__ = ["Actor", "Sandbox", "SandboxProcess", "iso", "load", "now"]


@dataclass(frozen=True, slots=True)
class Actor:
    """An account of the tool; `person` for people, False for the API account that is ours."""

    id: str
    person: bool
    name: str = ""


class Sandbox(ABC):
    """One tool's stand-in. Handlers are plain methods marked with @route: each is one step, so no two calls mix.

    A vendor keeps its documents in `self.journal.table(name)`, calls `self.ledger.write(...)` for each effect and `self.fire(...)`
    for each webhook, and leaves the rest to this class.
    """

    tool_type: ClassVar[str]
    retry_policy: ClassVar[RetryPolicy]
    retry_header: ClassVar[str | None] = None

    def __init__(self, *, state: Path | None = None, index_lag: float = 0.0, webhook_url: str | None = None) -> None:
        self.journal = Journal(state)
        self.keys = self.journal.table("keys")
        self.ledger = Ledger(self.journal)
        self.faults = Faults()
        self.index_lag = index_lag
        self.base_url = ""
        if webhook_url:
            self.keys.put("webhook_url", webhook_url)
        self._routes = routes_of(type(self))
        self._outbox: Outbox | None = None
        self._http = HttpServer(self._answer)

    # for a vendor to say -----------------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def credentials(self) -> Mapping[str, Any]:
        """`auth` as the tool's settings take it, `actor` (our account as webhooks name it), and `person`: {"headers": …} with
        which a person calls the same API."""

    @property
    @abstractmethod
    def webhook(self) -> Mapping[str, Any]:
        """The tool's `webhook` settings with which our side verifies what this sandbox sends."""

    @abstractmethod
    def actor_of(self, request: Request) -> Actor | None:
        """Who asks; None when the credentials are wrong."""

    @abstractmethod
    def refusal(self, status: int, request: Request) -> Response:
        """The tool's own form of an error: 401, 404 (also for an unknown path), 429, 500, …"""

    @abstractmethod
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        """A person opens a ticket: subject, description, priority, type, status, tags in canonical words. Answers its id."""

    @abstractmethod
    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        """A person changes a ticket: the same words, and `comment` with `public`. False when there is no such ticket."""

    # for a vendor to use -----------------------------------------------------------------------------------------------
    def secret(self, name: str, size: int = 24) -> str:
        """An invented credential, the same as long as the state lasts."""
        if name not in self.keys:
            self.keys.put(name, secrets.token_urlsafe(size))
        return str(self.keys.get(name))

    def next_id(self, name: str, first: int = 1) -> int:
        """The next number of a series, which a restart goes on with."""
        number = int(self.keys.get(f"next {name}") or first)
        self.keys.put(f"next {name}", number + 1)
        return number

    def indexed(self, written_at: int) -> bool:
        """Whether searches and listings see a write of this time (epoch microseconds) yet."""
        return self.index_lag <= 0 or (now() - written_at) / 1e6 >= self.index_lag

    def fire(self, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Sends a webhook, when there is a target: `body` is bytes, or is encoded as JSON; `sign` adds its headers."""
        url = self.keys.get("webhook_url")
        if not url or self._outbox is None:
            return
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        self._outbox.send(str(url), raw, {"Content-Type": "application/json", **self.sign(raw), **(headers or {})})

    def path_of(self, request: Request) -> str:
        """The path to find a route by, where a tool takes several spellings."""
        return request.path

    def sign(self, body: bytes) -> Mapping[str, str]:
        """The headers that authenticate a delivery."""
        return {}

    # the door ----------------------------------------------------------------------------------------------------------
    async def start(self, port: int = 0) -> str:
        """Listens; answers the base URL."""
        self._outbox = Outbox(self.retry_policy, self.retry_header)
        self._outbox.start()
        self.base_url = f"http://127.0.0.1:{await self._http.start(port)}"
        return self.base_url

    async def stop(self) -> None:
        await self._http.stop()
        if self._outbox is not None:
            await self._outbox.stop()
        self.journal.close()

    def introduction(self) -> dict[str, Any]:
        """What a starter prints: where it is and how to call it."""
        return {"base_url": self.base_url, "credentials": dict(self.credentials), "webhook": dict(self.webhook)}

    async def _answer(self, request: Request) -> Response:
        try:
            if request.path.startswith("/_"):
                return self._control(request)
            request.actor = self.actor_of(request)
            if request.actor is not None and request.actor.person:
                return self._handle(request)
            fault = self.faults.take(request)
            return self._handle(request) if fault is None else await self._under(fault, request)
        except Exception as exc:  # noqa: BLE001 - a sandbox's own fault must show as an answer, not as a hung connection
            return json_response({"error": f"the sandbox failed: {type(exc).__name__}: {exc}"}, 500)

    async def _under(self, fault: Fault, request: Request) -> Response:
        if fault.delay:
            await asyncio.sleep(fault.delay)
        response = Response(0) if fault.before else self._handle(request)
        if fault.status is not None:
            response = self.refusal(fault.status, request)
            if fault.retry_after is not None:
                response.headers["retry-after"] = f"{fault.retry_after:g}"
        elif fault.before and not fault.reset:
            response = self._handle(request)
        response.reset, response.half = fault.reset, fault.half_body
        return response

    def _handle(self, request: Request) -> Response:
        if request.actor is None:
            return self.refusal(401, request)
        known, path = False, self.path_of(request)
        for route in self._routes:
            params = route.match(path)
            if params is None:
                continue
            known = True
            if route.method == request.method:
                request.params = params
                answer: Response = getattr(self, route.handler)(request)
                return answer
        return self.refusal(405 if known else 404, request)

    def _control(self, request: Request) -> Response:
        match request.method, request.path.split("/")[1:]:
            case "GET", ["_health"]:
                return json_response({"ok": True, "tool_type": self.tool_type, "webhooks": self._webhook_counts()})
            case "GET", ["_ledger"]:
                return json_response(self.ledger.rows(int(request.query.get("after") or 0)))
            case "GET", ["_faults"]:
                return json_response(self.faults.shown())
            case "DELETE", ["_faults"]:
                self.faults.armed.clear()
                return json_response([])
            case "POST", ["_faults"]:
                return self._arm(request)
            case "GET", ["_webhook"]:
                return json_response({"url": self.keys.get("webhook_url")})
            case "POST", ["_webhook"]:
                wanted = request.json() or {}
                self.keys.put("webhook_url", wanted.get("url"))
                self.keys.put("webhook_kind", wanted.get("kind"))
                return json_response({"url": self.keys.get("webhook_url")})
            case "POST", ["_people", "tickets"]:
                request.actor = Actor("person", True)
                return json_response({"ticket_id": self.person_creates(request.json() or {}, request)}, 201)
            case "POST", ["_redeliver"]:
                count = int((request.json() or {}).get("count", 1))
                return json_response({"redelivered": self._outbox.redeliver(count) if self._outbox else 0})
            case "POST", ["_deliver"]:
                self.fire(str((request.json() or {}).get("body", "")).encode())
                return json_response({}, 202)
            case "PUT", ["_people", "tickets", ticket_id]:
                request.actor = Actor("person", True)
                done = self.person_updates(ticket_id, request.json() or {}, request)
                return json_response({"ticket_id": ticket_id}, 200 if done else 404)
        return json_response({"error": "no such control call"}, 404)

    def _arm(self, request: Request) -> Response:
        try:
            fault = self.faults.arm(request.body)
        except (msgspec.ValidationError, msgspec.DecodeError) as exc:
            return json_response({"error": str(exc)}, 400)
        if fault.index_lag is not None:
            self.index_lag = fault.index_lag
        return json_response(self.faults.shown())

    def _webhook_counts(self) -> dict[str, int]:
        box = self._outbox
        return {"pending": box.pending, "delivered": box.delivered, "failed": box.failed} if box else {}


def load(tool_type: str) -> type[Sandbox]:
    """The sandbox class of a tool type, or of a name module:Class; raises PluginConfigError when there is none."""
    from plugins.registry import PluginRegistry, load_class

    kind = load_class(tool_type) if ":" in tool_type else PluginRegistry.discover().sandbox(tool_type)
    assert issubclass(kind, Sandbox), f"{kind.__name__} is no Sandbox"
    return kind


def now() -> int:
    """Epoch microseconds."""
    return time.time_ns() // 1000


def iso(micros: int) -> str:
    """RFC 3339 text of a time, UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(micros // 1_000_000))
