"""The newer API of the sandbox: access tokens as its manual has them; paths and records as the plugin takes them to be."""

from __future__ import annotations

import hmac
import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import Sandbox, iso
from plugins.sandbox.state import Table
from plugins.sysaid.sandbox_record import LISTS, asset_shown, shown, written

Json = dict[str, Any]
LIFE = 86_400
TIMES = ("insert_time", "update_time", "close_time", "due_date")
SAID: Mapping[int, str] = {
    400: "Invalid request parameters",
    401: "Unauthorized",
    404: "Requested resource was not found",
    409: "Version conflict",
    429: "Too many requests",
}


class DevelopersApi(Sandbox):
    """Mixed into the sandbox: the same records under /v1, where an update names the version it read."""

    records: Table
    assets: Table

    @property
    def developers_auth(self) -> Mapping[str, str]:
        """What `auth` holds with `api: developers`."""
        return {"account_id": "acme", "client_id": self.secret("client id"), "client_secret": self.secret("client secret")}

    @abstractmethod
    def matching(self, query: Mapping[str, str], *, page: bool = True) -> list[Json]: ...

    @abstractmethod
    def add(self, given: Json, kind: str, request: Request) -> Json: ...

    @abstractmethod
    def change(self, record: Json, given: Json, request: Request) -> None: ...

    @abstractmethod
    def give_file(self, request: Request) -> Response: ...

    @abstractmethod
    def keep_file(self, record: Json, request: Request) -> Json | None: ...

    def token_holds(self, request: Request) -> bool:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        until = self.keys.get(f"token {token}") if kind == "Bearer" else None
        return until is not None and time.time() < until and request.headers.get("x-sysaid-accountid") == "acme"

    def refused_by_developers(self, status: int) -> Response:
        headers = {"x-ratelimit-limit": "1000", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"} if status == 429 else {}
        return json_response({"statusCode": status, "message": SAID.get(status, "Internal error")}, status, headers)

    @route("POST", "/v1/access-tokens")
    def access_token(self, request: Request) -> Response:
        given, right = request.json(), self.developers_auth
        given = given if isinstance(given, dict) else {}
        same = all(
            hmac.compare_digest(str(given.get(name, "")).encode(), right[key].encode())
            for name, key in (("clientId", "client_id"), ("clientSecret", "client_secret"))
        )
        if not same or request.headers.get("x-sysaid-accountid") != right["account_id"]:
            return self.refused_by_developers(401)
        token = uuid4().hex
        self.keys.put(f"token {token}", time.time() + LIFE)
        return json_response({"token": token, "tokenType": "Bearer", "expiresIn": LIFE})

    @route("GET", "/v1/filters")
    def developers_probe(self, request: Request) -> Response:
        return json_response([{"id": name} for name in LISTS])

    @route("GET", "/v1/list/{id}")
    def developers_list(self, request: Request) -> Response:
        rows = LISTS.get(request.params["id"])
        if rows is None:
            return self.refused_by_developers(404)
        return json_response({"values": [{"id": code, "caption": caption} for code, caption in rows.items()]})

    @route("GET", "/v1/service-records")
    def developers_records(self, request: Request) -> Response:
        return json_response({"data": [self._v1(r, request) for r in self.matching({"limit": "20", **request.query})]})

    @route("GET", "/v1/service-records/search")
    def developers_search(self, request: Request) -> Response:
        text = request.query.get("query", "").casefold()
        found = [r for r in self.matching({}, page=False) if any(text in str(v).casefold() for v in r.values())]
        return json_response({"data": [self._v1(r, request) for r in found]})

    @route("GET", "/v1/service-records/{id}")
    def developers_read(self, request: Request) -> Response:
        record = self.records.get(request.params["id"])
        return json_response(self._v1(record, request)) if record else self.refused_by_developers(404)

    @route("POST", "/v1/service-records")
    def developers_create(self, request: Request) -> Response:
        given = written(request.json())
        if not given or not given.get("title"):
            return self.refused_by_developers(400)
        return json_response(self._v1(self.add(given, request.query.get("type", "incident"), request), request), 201)

    @route("PUT", "/v1/service-records/{id}")
    def developers_update(self, request: Request) -> Response:
        record, body = self.records.get(request.params["id"]), request.json()
        if record is None:
            return self.refused_by_developers(404)
        given = written(body)
        if given is None:
            return self.refused_by_developers(400)
        if str(body.get("sr_version", "")) != str(record["sr_version"]):
            return self.refused_by_developers(409)
        self.change(record, given, request)
        return json_response(self._v1(record, request))

    @route("POST", "/v1/service-records/{id}/attachments")
    def developers_attach(self, request: Request) -> Response:
        record = self.records.get(request.params["id"])
        if record is None:
            return self.refused_by_developers(404)
        file = self.keep_file(record, request)
        return json_response({"id": file["fileId"]}, 201) if file else self.refused_by_developers(400)

    @route("GET", "/v1/service-records/{id}/attachments/{file}")
    def developers_download(self, request: Request) -> Response:
        return self.give_file(request)

    @route("GET", "/v1/assets")
    def developers_assets(self, request: Request) -> Response:
        return json_response({"data": [asset_shown(asset) for asset in self.assets.values()]})

    @route("GET", "/v1/assets/{id}")
    def developers_asset(self, request: Request) -> Response:
        asset = self.assets.get(request.params["id"])
        return json_response(asset_shown(asset)) if asset else self.refused_by_developers(404)

    @route("PUT", "/v1/assets/{id}")
    def developers_update_asset(self, request: Request) -> Response:
        asset, given = self.assets.get(request.params["id"]), written(request.json())
        if asset is None:
            return self.refused_by_developers(404)
        if given is None:
            return self.refused_by_developers(400)
        asset["info"].update({key: value for key, value in given.items() if key in asset["info"]})
        self.assets.put(asset["id"], asset)
        return json_response(asset_shown(asset))

    def _v1(self, record: Json, request: Request) -> Json:
        """A record with its times as ISO 8601, as this API's manual wants them."""
        fields = tuple(name for name in request.query.get("fields", "").split(",") if name)
        found = shown(record, fields)
        for item in found["info"]:
            if item["key"] in TIMES and item["value"]:
                item["value"] = iso(int(item["value"]) * 1000)
        return found
