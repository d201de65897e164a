"""What the parts of the small Freshdesk share: its door, its answers and its pages."""

from __future__ import annotations

import base64
import hmac
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from plugins.freshdesk.sandbox_seed import AGENT, API_AGENT
from plugins.sandbox.http import Request, Response, json_response
from plugins.sandbox.server import Actor, Sandbox, iso, now
from plugins.sandbox.state import Table

Json = dict[str, Any]
MAX_PER_PAGE = 100
MAX_PAGE = 300
RATE_LIMIT = 700
MESSAGES: Mapping[int, tuple[str, str]] = {
    401: ("invalid_credentials", "You have to be logged in to perform this action."),
    403: ("access_denied", "You are not authorized to perform this action."),
    409: ("inconsistent_state", "The resource is not in a state that allows this action."),
}


class Desk(Sandbox):
    """An account with an agent of ours, an agent who is a person, and their customers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._minute, self._calls = 0, 0

    # the door ------------------------------------------------------------------------------------------------------------
    @property
    def credentials(self) -> Mapping[str, Any]:
        person = base64.b64encode(f"{self.secret('person_key')}:X".encode()).decode()
        return {
            "auth": {"api_key": self.secret("api_key")},
            "actor": API_AGENT["contact"]["email"],
            "person": {"headers": {"Authorization": f"Basic {person}"}},
        }

    @property
    def webhook(self) -> Mapping[str, Any]:
        return {"secret": self.secret("webhook_secret")}

    def actor_of(self, request: Request) -> Actor | None:
        if request.path.startswith("/storage/"):  # a signed address is all the storage asks for
            return Actor("storage", False)
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        try:
            key = base64.b64decode(value, validate=True).partition(b":")[0] if kind.lower() == "basic" else b""
        except ValueError:
            return None
        if hmac.compare_digest(key, self.secret("api_key").encode()):
            return Actor(str(API_AGENT["id"]), False, API_AGENT["contact"]["name"])
        if hmac.compare_digest(key, self.secret("person_key").encode()):
            return Actor(str(AGENT["id"]), True, AGENT["contact"]["name"])
        return None

    def sign(self, body: bytes) -> Mapping[str, str]:
        return {"X-Webhook-Secret": self.secret("webhook_secret"), "User-Agent": "Freshdesk"}

    def refusal(self, status: int, request: Request) -> Response:
        """A missing record has no body at all; a server's fault is a page of HTML."""
        if status == 404:
            return self._headed(Response(404, b"", {"content-type": "text/html; charset=utf-8"}))
        if status == 405:
            return self._json({"message": f"{request.method} method is not allowed. See the list of methods of this path."}, 405)
        if status == 429:
            return self._json({"message": "You have exceeded the limit of requests per minute"}, 429, {"retry-after": "1"})
        if status >= 500:
            return self._headed(Response(status, b"<html><body>We could not serve you.</body></html>", {"content-type": "text/html"}))
        if status in MESSAGES:
            code, message = MESSAGES[status]
            return self._json({"code": code, "message": message}, status)
        return self._refused([("request", "It could not be read", "invalid_value")], status)

    def path_of(self, request: Request) -> str:
        return request.path.rstrip("/")

    # answers -------------------------------------------------------------------------------------------------------------
    def _json(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        return self._headed(json_response(value, status, headers))

    def _headed(self, response: Response) -> Response:
        """With the rate-limit headers; the limit is shown and not enforced (faults do that)."""
        minute = int(time.time() // 60)
        self._calls = self._calls + 1 if minute == self._minute else 1
        self._minute = minute
        response.headers.setdefault("x-ratelimit-total", str(RATE_LIMIT))
        response.headers.setdefault("x-ratelimit-remaining", str(max(1, RATE_LIMIT - self._calls)))  # never 0: nothing is refused
        response.headers.setdefault("x-ratelimit-used-currentrequest", "1")
        return response

    def _refused(self, faults: Iterable[tuple[str, str, str]], status: int = 400) -> Response:
        errors = [{"field": field, "message": message, "code": code} for field, message, code in faults]
        return self._json({"description": "Validation failed", "errors": errors}, status)

    def _page(self, request: Request, rows: list[Json], shown: Callable[[Json], Json]) -> Response:
        """One page of a list, with the address of the next in the Link header and no total."""
        query = request.query
        try:
            page, size = int(query.get("page") or 1), int(query.get("per_page") or 30)
        except ValueError:
            return self._refused([("page", "It should be a Positive Integer", "datatype_mismatch")])
        if not 1 <= size <= MAX_PER_PAGE:
            return self._refused([("per_page", f"It should be a Positive Integer less than or equal to {MAX_PER_PAGE}", "invalid_value")])
        if not 1 <= page <= MAX_PAGE:
            return self._refused([("page", "You cannot access tickets beyond the 300th page", "invalid_value")])
        start, headers = (page - 1) * size, {}
        if start + size < len(rows):
            headers["link"] = f'<{self.base_url}{request.path}?page={page + 1}&per_page={size}>; rel="next"'
        return self._json([shown(row) for row in rows[start : start + size]], 200, headers)

    def _searched(self, request: Request, rows: list[Json], shown: Callable[[Json], Json]) -> Response:
        """One page of a search, thirty at most, ten pages deep."""
        page = request.query.get("page") or "1"
        if not page.isdecimal() or not 1 <= int(page) <= 10:
            return self._refused([("page", "It should be a Positive Integer less than or equal to 10", "invalid_value")])
        start = (int(page) - 1) * 30
        return self._json({"total": len(rows), "results": [shown(row) for row in rows[start : start + 30]]})

    def _given(self, request: Request) -> Json | Response:
        """The object of a JSON body; without one, the tool's refusal."""
        if "application/json" not in request.headers.get("content-type", ""):
            return self._json({"message": "Content-Type header is not set to application/json"}, 415)
        body = request.json()
        if not isinstance(body, dict):
            return self._json({"code": "invalid_json", "message": "Request body has invalid json format"}, 400)
        return body

    def _stamped(self, record: Json, *, new: bool = False) -> Json:
        at = now()
        if new:
            record["created_at"] = iso(at)
        record["updated_at"], record["_at"] = iso(at), at
        return record

    @abstractmethod
    def contact_of(self, email: str, name: str = "") -> Json:
        """The contact with this address, made where there is none."""


def shown(record: Mapping[str, Any]) -> Json:
    """A record without what is the sandbox's own."""
    return {name: value for name, value in record.items() if not name.startswith("_")}


def by_id(table: Table, record_id: str) -> Json | None:
    """A record of a table; None also for an id of no form it has."""
    found: Json | None = table.get(record_id)
    return found
