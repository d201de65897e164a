"""What the sandbox's records refer to: filters and lists, users, assets and what they support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import Sandbox
from plugins.sysaid.sandbox_record import LISTS, USERS, asset_shown, user_shown, value_list

PAGE = 500


class Surroundings(Sandbox):
    """Mixed into the sandbox."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.assets = self.journal.table("assets")
        if not len(self.assets):
            self._add_assets()

    @route("GET", "/api/v1/filters")
    def filters(self, request: Request) -> Response:
        wanted = fields_asked(request)
        lists = [value_list(name, rows, with_all=True) for name, rows in LISTS.items() if name != "asset_status"]
        return json_response([{"id": row["id"]} if wanted == ("id",) else row for row in lists])

    @route("GET", "/api/v1/list")
    def lists(self, request: Request) -> Response:
        return json_response([value_list(name, rows) for name, rows in LISTS.items()])

    @route("GET", "/api/v1/list/{id}")
    def one_list(self, request: Request) -> Response:
        rows = LISTS.get(request.params["id"])
        if rows is None:
            return json_response({"status": "error", "message": "Invalid list id"}, 400)
        return json_response(value_list(request.params["id"], rows))

    @route("GET", "/api/v1/users")
    def users(self, request: Request) -> Response:
        wanted = request.query.get("type")
        found = [i for i, user in USERS.items() if wanted is None or user["admin"] == (wanted == "admin")]
        return json_response([user_shown(i) for i in page_of(found, request.query)])

    @route("GET", "/api/v1/users/search")
    def search_users(self, request: Request) -> Response:
        text = request.query.get("query", "").casefold()
        found = [i for i, user in USERS.items() if any(text in str(value).casefold() for value in user.values())]
        return json_response([user_shown(i) for i in page_of(found, request.query)])

    @route("GET", "/api/v1/users/{id}")
    def user(self, request: Request) -> Response:
        known = request.params["id"] in USERS
        return json_response(user_shown(request.params["id"])) if known else json_response({"message": "No such user"}, 404)

    @route("GET", "/api/v1/asset")
    def list_assets(self, request: Request) -> Response:
        return json_response([asset_shown(asset) for asset in page_of(self.assets.values(), request.query)])

    @route("GET", "/api/v1/asset/search")
    def search_assets(self, request: Request) -> Response:
        text = request.query.get("query", "").casefold()
        found = [asset for asset in self.assets.values() if text in str(asset).casefold()]
        return json_response([asset_shown(asset) for asset in page_of(found, request.query)])

    @route("GET", "/api/v1/asset/{id}")
    def asset(self, request: Request) -> Response:
        found = self.assets.get(request.params["id"])
        return json_response(asset_shown(found)) if found else json_response({"message": "No such asset"}, 404)

    @route("GET", "/api/v1/ci/{id}/relation")
    def relations(self, request: Request) -> Response:
        runs_on = [{"dest": "902", "destName": "Yard gate service", "ciRelationType": 1, "relationName": "supports"}]
        return json_response(runs_on if request.params["id"] == "901" else [])

    def _add_assets(self) -> None:
        laptop = {"status": "2", "model": "t3.large", "serial": "SN-2231", "owner": "Cora Customer", "location": "Yard 2", "ci_id": "901"}
        phone = {"status": "6", "model": "Galaxy S22", "serial": "SN-0071", "description": "Spare phone"}
        for asset_id, name, info in (
            ("0A-3E-E9-13-2B-E4", "GATE-PC-04", laptop),
            ("5171019c-fa80-4905-a577-c95eb518de90", "Yard phone", phone),
        ):
            self.assets.put(asset_id, {"id": asset_id, "name": name, "info": info})


def fields_asked(request: Request) -> tuple[str, ...]:
    return tuple(name for name in request.query.get("fields", "").split(",") if name)


def page_of(rows: Sequence[Any], query: Mapping[str, str]) -> list[Any]:
    """By offset and limit, 500 at most."""
    offset, limit = (int(query[name]) if query.get(name, "").isdigit() else least for name, least in (("offset", 0), ("limit", PAGE)))
    return list(rows[offset : offset + min(limit, PAGE)])
