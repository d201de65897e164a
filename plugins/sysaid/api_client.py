"""The SysAid calls this project makes, one method each.

The classic API (https://documentation.sysaid.com/docs/rest-api-details) and the newer one (https://developers.sysaid.com) keep the
same records; they differ in who we are (session.py), in their paths, and in the version the newer one wants back with an update. Of
the newer API the vendor's manual shows us the authentication only, so each of its paths below can be replaced by a tenant.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plugins.api import ApiError, Conflict, FatalApiError, NotFound, PluginConfigError, PluginContext, TornAnswer
from plugins.http.errors import Answer, error_for
from plugins.http.limits import segment
from plugins.sysaid.payload import fold

if TYPE_CHECKING:
    from plugins.http.client import ApiClient
    from plugins.sysaid.session import AccessToken, Session

Json = dict[str, Any]
Info = Mapping[str, Any]

PAGE = 500
MAX_IDS = 100
MAX_PAGES = 200
VERSION_TRIES = 3
CLASSIC: Mapping[str, str] = {
    "login": "/api/v1/login",
    "records": "/api/v1/sr",
    "search": "/api/v1/sr/search",
    "template": "/api/v1/sr/template",
    "record": "/api/v1/sr/{id}",
    "close": "/api/v1/sr/{id}/close",
    "activity": "/api/v1/sr/{id}/activity",
    "message": "/api/v1/sr/{id}/message",
    "attachments": "/api/v1/sr/{id}/attachment",
    "attachment": "/api/v1/sr/{id}/attachment/{file}",
    "list": "/api/v1/list/{id}",
    "filters": "/api/v1/filters",
    "users": "/api/v1/users/search",
    "user": "/api/v1/users/{id}",
    "assets": "/api/v1/asset",
    "asset_search": "/api/v1/asset/search",
    "asset": "/api/v1/asset/{id}",
    "ci_relations": "/api/v1/ci/{id}/relation",
}
DEVELOPERS: Mapping[str, str] = {
    **{name: path.replace("/api/v1/sr", "/v1/service-records").replace("/api/v1/", "/v1/") for name, path in CLASSIC.items()},
    "login": "/v1/access-tokens",
    "attachments": "/v1/service-records/{id}/attachments",
    "attachment": "/v1/service-records/{id}/attachments/{file}",
    "assets": "/v1/assets",
    "asset_search": "/v1/assets/search",
    "asset": "/v1/assets/{id}",
    "ci_relations": "/v1/cis/{id}/relations",
}
"""Only access-tokens is the manual's; the others follow its style and are to be checked on the tenant's developer page."""


class SysAidClient:
    """Typed calls over an ApiClient that is bound to the account's address and credentials."""

    def __init__(self, http: ApiClient, paths: Mapping[str, str], entrance: Session | AccessToken, *, versioned: bool) -> None:
        self._http, self._paths, self.entrance, self.versioned = http, paths, entrance, versioned

    @classmethod
    def of(cls, context: PluginContext) -> SysAidClient:
        """The client of a tenant's settings; raises PluginConfigError for what is missing."""
        from plugins.sysaid.session import AccessToken, Session

        settings = context.settings
        auth = settings.get("auth") or {}
        base = str(settings.get("base_url") or "").rstrip("/").removesuffix("/api/v1")
        if not base:
            raise PluginConfigError("base_url is not set; give this tool its address")
        api = settings.get("api", "classic")
        paths = {**(CLASSIC if api == "classic" else DEVELOPERS), **(settings.get("paths") or {})}
        entrance: Session | AccessToken
        if api == "classic":
            _need(auth, "user_name", "password")
            entrance = Session(
                base + paths["login"], str(auth["user_name"]), lambda: context.secret(str(auth["password"])), auth.get("account_id")
            )
        elif api == "developers":
            _need(auth, "account_id", "client_id", "client_secret")
            entrance = AccessToken(
                base + paths["login"],
                str(auth["account_id"]),
                lambda: context.secret(str(auth["client_id"])),
                lambda: context.secret(str(auth["client_secret"])),
            )
        else:
            raise PluginConfigError("api must be classic or developers")
        return cls(
            context.http().bound(base_url=base, auth=entrance, headers={"Accept": "application/json"}, error_for=sysaid_error),
            paths,
            entrance,
            versioned=api == "developers",
        )

    # service records ---------------------------------------------------------------------------------------------------
    async def probe(self) -> None:
        """The cheapest call that proves the session."""
        await self._http.request("GET", self._paths["filters"], params={"fields": "id"})

    async def record(self, ticket_id: str, fields: Sequence[str] = ()) -> Json:
        """One service record of any type; raises NotFound. Ids are numbers: anything else is not asked for."""
        answer = await self._http.request("GET", self._record(ticket_id), params={"fields": ",".join(fields)} if fields else None)
        if isinstance(answer, list):  # some versions answer one record in a list
            if not answer:
                raise NotFound(f"service record {ticket_id} does not exist, or is hidden from our account", status=404)
            answer = answer[0]
        return _record(answer)

    def records(self, fields: Sequence[str], **params: str) -> AsyncGenerator[Json, None]:
        """Every service record that meets the parameters, page by page."""
        return self._pages("records", {"type": "all", "fields": ",".join(fields), "sort": "id", "dir": "asc", **params})

    def searched(self, text: str, fields: Sequence[str]) -> AsyncIterator[Json]:
        """Every service record the free-text search finds."""
        return self._pages("search", {"type": "all", "query": text, "fields": ",".join(fields)})

    async def create(self, kind: str, info: Info, fields: Sequence[str], template: str | None = None) -> Json:
        params = {"type": kind, "fields": ",".join(fields), **({"template": template} if template else {})}
        return _record(await self._http.request("POST", self._paths["records"], params=params, json={"info": _pairs(info)}), wrote=True)

    async def update(self, ticket_id: str, info: Info, version: Any = None) -> None:
        """Sets fields, which the tool answers with an empty success; keys it does not know are dropped without a word."""
        body: Json = {"id": ticket_id, "info": _pairs(info)}
        if version is not None:
            body["sr_version"] = version
        await self._http.request("PUT", self._record(ticket_id), json=body)

    async def write(self, ticket_id: str, info: Info) -> None:
        """An update; where records have versions, with the one just read, and again when somebody was quicker."""
        if not self.versioned:
            await self.update(ticket_id, info)
            return
        for turn in range(VERSION_TRIES):
            values, _ = fold(await self.record(ticket_id, ("sr_version",)))
            try:
                await self.update(ticket_id, info, values.get("sr_version"))
                return
            except Conflict:
                if turn == VERSION_TRIES - 1:
                    raise

    async def close(self, ticket_id: str, solution: str) -> None:
        """Sets the account's own status for closed; on a record that is closed it does nothing."""
        body = {"solution": solution} if solution else {}
        try:
            await self._http.request("PUT", self._filled("close", ticket_id), json=body)
        except AlreadyClosed:
            return

    async def activity(self, ticket_id: str, user_id: str, from_ms: int, to_ms: int, description: str) -> None:
        """Logs work; times in epoch milliseconds. Clients in use found these spellings, the manual has others."""
        body = {"userId": user_id, "fromTime": str(from_ms), "toTime": str(to_ms), "description": description}
        await self._http.request("POST", self._filled("activity", ticket_id), json=body)

    async def message(self, ticket_id: str, from_user: str, to_user: str, subject: str, text: str) -> None:
        """Mails a person from the record."""
        body = {"message": {"fromUserId": from_user, "toUsers": to_user, "msgSubject": subject, "msgBody": text}}
        await self._http.request("POST", self._filled("message", ticket_id), params={"method": "email", "addSrDetails": "false"}, json=body)

    async def attach(self, ticket_id: str, content: AsyncIterable[bytes], headers: Mapping[str, str]) -> Any:
        """Sends a multipart form whose part is `file`; answers whatever the version says."""
        return await self._http.request("POST", self._filled("attachments", ticket_id), content=content, headers=headers)

    def download(self, ticket_id: str, file_id: str, max_bytes: int) -> AsyncIterator[bytes]:
        path = self._filled("attachment", ticket_id).replace("{file}", segment(file_id))
        return self._http.stream("GET", path, max_bytes=max_bytes)

    # what values and fields there are ----------------------------------------------------------------------------------
    async def words(self, name: str) -> dict[str, str]:
        """A list's captions by their codes, in the account's own order; without its entry for "all"."""
        answer = await self._http.request("GET", self._filled("list", name), params={"entity": "sr"})
        if isinstance(answer, list) and len(answer) == 1 and isinstance(answer[0], dict) and "values" in answer[0]:
            answer = answer[0]
        rows = answer.get("values") if isinstance(answer, dict) else answer
        if not isinstance(rows, list):
            raise TornAnswer(f"SysAid answered the list {name} without its values")
        pairs = [(str(row.get("id")), str(row.get("caption"))) for row in rows if isinstance(row, dict)]
        return {code: caption for code, caption in pairs if not code.startswith("${")}

    async def fields(self, kind: str) -> dict[str, str]:
        """Captions of a type's fields by their keys, from its template."""
        answer = _record(await self._http.request("GET", self._paths["template"], params={"type": kind}))
        info = answer.get("info")
        rows = info if isinstance(info, list) else []
        return {str(row["key"]): str(row.get("keyCaption") or row["key"]) for row in rows if isinstance(row, dict) and "key" in row}

    # people and assets -------------------------------------------------------------------------------------------------
    async def user(self, user_id: str) -> Json:
        return _record(await self._http.request("GET", self._filled("user", user_id)))

    async def users(self, text: str, limit: int) -> list[Json]:
        answer = await self._http.request("GET", self._paths["users"], params={"query": text, "limit": limit, "offset": 0})
        return _rows(answer)

    async def asset(self, asset_id: str) -> Json:
        return _record(await self._http.request("GET", self._filled("asset", asset_id)))

    def assets(self, text: str = "") -> AsyncIterator[Json]:
        return self._pages("asset_search", {"query": text}) if text else self._pages("assets", {})

    async def update_asset(self, asset_id: str, info: Info) -> None:
        body = {"id": asset_id, "info": _pairs(info)}
        await self._http.request("PUT", self._filled("asset", asset_id), json=body)

    async def ci_relations(self, ci_id: str) -> list[Json]:
        return _rows(await self._http.request("GET", self._filled("ci_relations", ci_id)))

    # ------------------------------------------------------------------------------------------------------------------
    def _record(self, ticket_id: str) -> str:
        if not (ticket_id.isascii() and ticket_id.isdigit()):
            raise NotFound(f"service record ids are numbers; this is none: {ticket_id[:40]!r}", status=404)
        return self._filled("record", ticket_id)

    def _filled(self, name: str, value: str) -> str:
        return self._paths[name].replace("{id}", segment(value))

    async def _pages(self, name: str, params: Mapping[str, str]) -> AsyncGenerator[Json, None]:
        """Rows by offset and limit; the end is a page that is short."""
        for number in range(MAX_PAGES):
            answer = await self._http.request("GET", self._paths[name], params={**params, "offset": number * PAGE, "limit": PAGE})
            rows = _rows(answer)
            for row in rows:
                yield row
            if len(rows) < PAGE:
                return
        raise FatalApiError(f"GET {self._paths[name]} has more than {MAX_PAGES} pages")


class AlreadyClosed(FatalApiError):
    """400 of a close on what is closed: what was asked for is so."""


def sysaid_error(answer: Answer) -> ApiError | None:
    """SysAid's errors: text or {"message"}, a login page under 200, and 400 for an id it does not know."""
    if 200 <= answer.status < 300:
        if "text/html" in answer.headers.get("content-type", ""):  # files come as a stream, which nobody looks into
            return error_for(answer, "a page in place of data: the login page, or a gateway's", TornAnswer)
        return None
    body = answer.json()
    message = (
        str(body.get("message") or "") if isinstance(body, dict) else "" if answer.is_json else answer.body[:300].decode("utf-8", "replace")
    )
    said = message.lower()
    if answer.status == 400 and "already closed" in said:
        return error_for(answer, "already closed", AlreadyClosed)
    if answer.status == 400 and "invalid service record id" in said:
        return error_for(answer, "invalid service record id", NotFound)
    if answer.status == 404 and not answer.is_json:
        return error_for(answer, "no such path here; check base_url and api", NotFound)
    return error_for(answer)


def _pairs(info: Info) -> list[Json]:
    """The `info` list of a write. Scalars go as text: a JSON number is answered with 500 by versions in use."""
    return [{"key": key, "value": value if isinstance(value, (dict, list)) else _scalar(value)} for key, value in info.items()]


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _record(answer: Any, *, wrote: bool = False) -> Json:
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if not isinstance(answer, dict):
        raise TornAnswer("SysAid answered a success without the record", in_doubt=wrote)
    return answer


def _rows(answer: Any) -> list[Json]:
    """A list's rows: bare, or beside their metadata."""
    found = answer.get("data", answer.get("values")) if isinstance(answer, dict) else answer
    if not isinstance(found, list):
        raise TornAnswer("SysAid answered a list without its rows")
    return [row for row in found if isinstance(row, dict)]


def _need(auth: Mapping[str, Any], *names: str) -> None:
    missing = [name for name in names if not auth.get(name)]
    if missing:
        raise PluginConfigError(f"auth of a sysaid tool needs {', '.join(missing)}")
