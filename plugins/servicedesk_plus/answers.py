"""What hangs on a request, as our values: its files, its clocks, its assets, the work logged on it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plugins.api import Attachment, ConfigurationItem, SlaTarget
from plugins.mapping import to_id, to_micros, to_text
from plugins.servicedesk_plus.payload import plain

Json = dict[str, Any]


def clocks_of(request: Json) -> Sequence[SlaTarget]:
    """The clocks of response and resolution, where a policy set them."""
    policy = request.get("sla")
    name = to_text(policy.get("name")) if isinstance(policy, dict) else ""
    done = _time(request, "resolved_time") or _time(request, "completed_time")
    clocks = (
        ("response", "first_response_due_by_time", _time(request, "responded_time"), "is_first_response_overdue"),
        ("resolution", "due_by_time", done, "is_overdue"),
    )
    paused = _time(request, "onhold_time") is not None
    return [
        SlaTarget(name=f"{name} {what}".strip(), due_at=due_at, completed_at=end, breached=request.get(late) is True, paused=paused)
        for what, due, end, late in clocks
        if (due_at := _time(request, due)) is not None
    ]


ASSET_FIELDS = ("serial_number", "asset_tag", "barcode", "location", "ip_address", "vendor", "warranty_expiry", "acquisition_date")
ASSET_NAMES = {"product": "product", "site": "site", "user": "owner", "department": "department", "region": "region"}


def item_of(asset: Json) -> ConfigurationItem:
    """An asset: what people read of it, by the tool's own field names; what is not there is left out."""
    attributes = {name: text for name in ASSET_FIELDS if (text := _shown(asset.get(name)))}
    attributes |= {ours: text for theirs, ours in ASSET_NAMES.items() if (text := _shown(asset.get(theirs)))}
    item_id = to_id(asset.get("id")) or ""
    return ConfigurationItem(
        item_id=item_id,
        name=to_text(asset.get("name")) or item_id,
        kind=_shown(asset.get("product_type")) or _shown(asset.get("type")),
        status=_shown(asset.get("state")),
        attributes=attributes,
    )


def _shown(value: Any) -> str:
    """A field's text: itself, its object's name, or a time as the tool shows it."""
    return to_text(value.get("name") or value.get("display_value")) if isinstance(value, dict) else to_text(value)


def _time(item: Json, name: str) -> int | None:
    value = item.get(name)
    return to_micros(value.get("value") if isinstance(value, dict) else value)


def attachment_of(row: Json) -> Attachment | None:
    file_id, size = to_id(row.get("id")), row.get("size")
    size = size.get("value") if isinstance(size, dict) else size
    if file_id is None:
        return None
    return Attachment(
        attachment_id=file_id,
        filename=to_text(row.get("name") or row.get("file_name")) or file_id,
        content_type=to_text(row.get("content_type")) or "application/octet-stream",
        size=int(size) if isinstance(size, int) or (isinstance(size, str) and size.isdigit()) else None,
    )


def worklog_of(row: Json) -> Json:
    """Builds tell the time spent as hours and minutes, or as milliseconds."""
    spent, owner = row.get("time_spent"), row.get("owner")
    minutes: int | None = None
    if isinstance(spent, dict) and ("hours" in spent or "minutes" in spent):
        minutes = 60 * _number(spent.get("hours")) + _number(spent.get("minutes"))
    elif (text := to_text(spent.get("value") if isinstance(spent, dict) else spent)).isdigit():
        minutes = int(text) // 60_000
    return {
        "text": plain(to_text(row.get("description"))),
        "owner": to_text(owner.get("email_id") or owner.get("name")) if isinstance(owner, dict) else "",
        "minutes": minutes,
        "started_at": _time(row, "start_time"),
    }


def _number(value: Any) -> int:
    text = to_text(value)
    return int(text) if text.isascii() and text.isdigit() else 0
