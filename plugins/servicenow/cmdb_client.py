"""The CMDB: what a record is about, how those items hang together, and which services lean on them.

A second client because it is a second API: tables `cmdb_ci`, `cmdb_rel_ci`, `task_ci` and the CMDB Instance API
(https://github.com/ServiceNow/ServiceNowDocs markdown/api-reference/rest-apis/cmdb-instance-api.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plugins.api import ConfigurationItem, DeviceContext, Relation
from plugins.http.limits import segment
from plugins.servicenow.api_client import BOTH_VALUES, Row, ServiceNowClient, escaped, result_of, searchable
from plugins.servicenow.payload import SYS_ID, id_of, shown, text_of

if TYPE_CHECKING:
    from plugins.http.client import ApiClient

MAX_ITEMS = 20
MAX_RELATIONS = 20
MAX_NAMESAKES = 3
DEPTH = 3
"""How many steps up, from an item to what leans on it, a service is looked for."""
MAX_ASKED = 100
"""Items asked about in one query: longer addresses are cut on the way."""
SERVICES = "cmdb_ci_service"
ITEM_FIELDS = (
    "sys_id",
    "name",
    "sys_class_name",
    "operational_status",
    "install_status",
    "serial_number",
    "asset_tag",
    "ip_address",
    "location",
    "owned_by",
    "assigned_to",
    "support_group",
)
RELATION_FIELDS = ("sys_id", "type.name", "parent", "parent.name", "parent.sys_class_name", "child", "child.name")
ATTRIBUTES = ("serial_number", "asset_tag", "ip_address", "location", "owned_by", "assigned_to", "support_group")
STATUS_WORDS: Mapping[str, str] = {"1": "operational", "2": "non-operational", "3": "repair in progress", "6": "retired"}
"""operational_status, base choices; an instance's own show as it shows them."""


class CmdbClient:
    """Reads configuration items over the same connection and credentials as the tickets."""

    def __init__(self, http: ApiClient, tables: ServiceNowClient, base_url: str) -> None:
        self._http, self._tables = http, tables
        self._base_url = base_url.rstrip("/")

    async def context(self, table: str, sys_id: str, device: Mapping[str, Any]) -> DeviceContext | None:
        """The items a record is about (its `cmdb_ci` first, then its affected CIs) with their relations, and the services affected:
        its own `business_service`, and every service that leans on an item within three steps. None when it names neither.

        `device` is what a delivery called it, perhaps another tool's: an item here by its sys_id, else by its name or serial number.
        Takes at most nine requests whatever the record, and shows at most 20 items of 20 relations each.
        """
        named = await self._tables.row(table, sys_id, ("cmdb_ci", "business_service"), display=BOTH_VALUES)
        affected, _ = await self._tables.rows("task_ci", f"task={escaped(sys_id)}^ORDERBYsys_id", ("ci_item",), limit=MAX_ITEMS)
        wanted = [id_of(device.get("id")), id_of(named.get("cmdb_ci")), *(id_of(row.get("ci_item")) for row in affected)]
        ids = [i for i in dict.fromkeys(wanted) if i is not None and SYS_ID.fullmatch(i)][:MAX_ITEMS]
        if not ids:
            ids = await self._ids_of(device)
        services = [name] if (name := shown(named.get("business_service"))) else []
        if not ids:
            return DeviceContext(items=(), services=tuple(services)) if services else None
        rows = await self._items(ids)
        relations, above = await self._relations(ids, set(ids))
        services += await self._services_above(above)
        services += [shown(row.get("name")) or text_of(row.get("name")) for row in rows if _is_service(text_of(row.get("sys_class_name")))]
        return DeviceContext(
            items=tuple(self._item(row, relations.get(text_of(row.get("sys_id")), ())) for row in rows),
            services=tuple(dict.fromkeys(name for name in services if name)),
        )

    async def item(self, class_name: str, sys_id: str) -> ConfigurationItem:
        """One item with its class's own attributes, through the CMDB Instance API; NotFound when the class has no such item."""
        body = await self._http.request("GET", f"/api/now/cmdb/instance/{segment(class_name)}/{segment(sys_id)}")
        result = result_of(body)
        attributes = result.get("attributes")
        row: dict[str, Any] = attributes if isinstance(attributes, dict) else {}
        relations = [
            Relation(kind=_half(shown(edge.get("type")), downwards), name=shown(edge.get("target")), item_id=text_of(edge.get("target")))
            for name, downwards in (("outbound_relations", True), ("inbound_relations", False))
            for edge in (result.get(name) or ())
            if isinstance(edge, dict)
        ]
        told = {name: shown(value) or text_of(value) for name, value in row.items()}
        return ConfigurationItem(
            item_id=sys_id,
            name=told.get("name", ""),
            kind=told.get("sys_class_name") or class_name,
            status=_status(row),
            url=self._url(class_name, sys_id),
            attributes={name: value for name, value in told.items() if value and not name.startswith("sys_") and name != "name"},
            relations=tuple(relations[:MAX_RELATIONS]),
        )

    async def _ids_of(self, device: Mapping[str, Any]) -> list[str]:
        """Items that carry another tool's serial number or, failing that, name for a device; none where so many do that none is meant."""
        for column, keys in (("serial_number", ("serial_number", "serialNumber")), ("name", ("name",))):
            value = next((text for key in keys if (text := text_of(device.get(key)).strip())), "")
            if value and searchable(value):
                query = f"{column}={escaped(value)}^ORDERBYsys_id"
                rows, _ = await self._tables.rows("cmdb_ci", query, ("sys_id", column), limit=MAX_NAMESAKES + 1)
                found = [text_of(row.get("sys_id")) for row in rows if text_of(row.get(column)).casefold() == value.casefold()]
                if 0 < len(found) <= MAX_NAMESAKES:
                    return found
        return []

    async def _items(self, ids: Sequence[str]) -> list[Row]:
        rows, _ = await self._tables.rows("cmdb_ci", f"sys_idIN{','.join(ids)}", ITEM_FIELDS, limit=MAX_ITEMS, display=BOTH_VALUES)
        by_id = {text_of(row.get("sys_id")): row for row in rows}
        return [by_id[i] for i in ids if i in by_id]

    async def _relations(self, ids: Sequence[str], seen: set[str]) -> tuple[dict[str, list[Relation]], list[Row]]:
        """Each item's relations, and the ones whose parent leans on an item not seen before."""
        asked = ",".join(ids)
        rows, _ = await self._tables.rows("cmdb_rel_ci", f"parentIN{asked}^ORchildIN{asked}^ORDERBYsys_id", RELATION_FIELDS)
        found: dict[str, list[Relation]] = {}
        for row in rows:
            parent, child, kind = text_of(row.get("parent")), text_of(row.get("child")), text_of(row.get("type.name"))
            for one, other, name, downwards in ((parent, child, "child.name", True), (child, parent, "parent.name", False)):
                if one in ids and len(found.setdefault(one, [])) < MAX_RELATIONS:
                    found[one].append(Relation(kind=_half(kind, downwards), name=text_of(row.get(name)), item_id=other))
        return found, [row for row in rows if text_of(row.get("child")) in seen and text_of(row.get("parent")) not in seen]

    async def _services_above(self, above: Sequence[Row]) -> list[str]:
        """Names of services on the way up from the items: nearest first, each item looked at once."""
        services: list[str] = []
        seen: set[str] = set()
        for step in range(DEPTH):
            services += [text_of(row.get("parent.name")) for row in above if _is_service(text_of(row.get("parent.sys_class_name")))]
            following = [i for i in dict.fromkeys(text_of(row.get("parent")) for row in above) if i not in seen][:MAX_ASKED]
            if not following or step + 1 == DEPTH:
                break
            seen.update(following)
            above, _ = await self._tables.rows("cmdb_rel_ci", f"childIN{','.join(following)}^ORDERBYsys_id", RELATION_FIELDS)
        return services

    def _item(self, row: Row, relations: Sequence[Relation]) -> ConfigurationItem:
        sys_id, kind = text_of(row.get("sys_id")), text_of(row.get("sys_class_name"))
        return ConfigurationItem(
            item_id=sys_id,
            name=text_of(row.get("name")),
            kind=shown(row.get("sys_class_name")) or kind,
            status=_status(row),
            url=self._url(kind, sys_id),
            attributes={name: value for name in ATTRIBUTES if (value := shown(row.get(name)) or text_of(row.get(name)))},
            relations=tuple(relations),
        )

    def _url(self, class_name: str, sys_id: str) -> str | None:
        return f"{self._base_url}/{class_name or 'cmdb_ci'}.do?sys_id={sys_id}" if self._base_url else None


def _half(kind: str, downwards: bool) -> str:
    """A relation type holds both readings, "Depends on::Used by": the first from the parent's side, the second from the child's."""
    down, _, up = kind.partition("::")
    return down if downwards or not up else up


def _status(row: Mapping[str, Any]) -> str:
    value = row.get("operational_status")
    return STATUS_WORDS.get(text_of(value)) or shown(value) or text_of(value)


def _is_service(class_name: str) -> bool:
    return class_name == SERVICES or class_name.startswith(SERVICES + "_")
