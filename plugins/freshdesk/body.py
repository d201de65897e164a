"""The bodies of Freshdesk deliveries as one flat record: JSON as an admin broke it, a form, XML; wrapped, nested or flat. Pure.

A rule sends JSON, XML or a form. "Simple" content wraps its fields in `freshdesk_webhook`; "Advanced" content is whatever template
an admin pasted; an app's event has an envelope of its own (`AppEvent`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from plugins.api import Delivery, NotADelivery
from plugins.repair import lenient_object

WRAPPERS = ("freshdesk_webhook", "ticket")
MAX_FIELDS = 1000
MAX_XML = 1 << 20
MAX_XML_DEPTH = 8
_FORM_NAME = re.compile(r"\w+(?:\[(\w*)\])?")


@dataclass(frozen=True, slots=True)
class AppEvent:
    """What a marketplace app passes on: `{"event": "onTicketUpdate", "data": {…}, "timestamp": …}`."""

    name: str
    record: dict[str, Any]
    """The ticket, flat; of a conversation's event only what is known of its ticket."""
    actor: Mapping[str, Any]
    requester: Mapping[str, Any]
    conversation: Mapping[str, Any] | None
    changes: Mapping[str, Any]
    """By field [old, new], or whatever else the platform's version puts there."""
    timestamp: Any


def document_of(delivery: Delivery) -> dict[str, Any]:
    """The body as an object; raises NotADelivery when it cannot be read for sure."""
    kind, body = delivery.content_type or delivery.headers.get("content-type", ""), delivery.body
    start = body[:64].lstrip()[:1]
    if "form-urlencoded" in kind and start != b"{":
        return _form(body)
    if start == b"<":
        return _xml(body)
    return lenient_object(body)


def app_event(document: Mapping[str, Any]) -> AppEvent | None:
    """The event of an app's envelope; None for a rule's body."""
    name, data = document.get("event"), document.get("data")
    if type(name) is not str or type(data) is not dict or not name.startswith("on"):
        return None
    ticket, conversation = data.get("ticket"), data.get("conversation")
    record = flat(ticket) if type(ticket) is dict else {}
    if type(conversation) is dict and not record.get("id"):
        record = {**record, "id": conversation.get("ticket_id")}
    changes = _object(data.get("changes")) or _object(_object(ticket).get("changes")) or _object(_object(conversation).get("changes"))
    return AppEvent(
        name=name,
        record=record,
        actor=_object(data.get("actor")),
        requester=_object(data.get("requester")),
        conversation=conversation if type(conversation) is dict else None,
        changes=_object(changes.get("model_changes")) or changes,
        timestamp=document.get("timestamp"),
    )


def record_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """A rule's body as one flat record: the wrapper's fields over those beside it.

    Raises NotADelivery when both name a ticket, and not the same: a pasted subject may have brought the second.
    """
    record = flat({name: value for name, value in document.items() if name not in WRAPPERS})
    beside = document.get("ticket_id")
    for wrapper in WRAPPERS:
        inner = document.get(wrapper)
        if type(inner) is dict:
            fields = flat(inner)
            if beside and str(fields.get("id", beside)) != str(beside):
                raise NotADelivery("the body names two tickets, one inside the other's wrapper")
            record.update(fields)
    return record


def flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Lower-case names without `ticket_`, objects one level deep as `agent_email`.

    Empty values, and placeholders nobody filled, are left out. A name with the prefix wins over the same without it: `ticket_id` is
    the ticket's, `id` may be anything's. Of names that differ in case the first wins.
    """
    plain: dict[str, Any] = {}
    prefixed: dict[str, Any] = {}
    for count, (name, value) in enumerate(fields.items()):
        if count >= MAX_FIELDS:
            break
        if value is None or value == "" or (type(value) is str and value.startswith("{{")):
            continue
        name = name.lower()
        if name.startswith("ticket_"):
            prefixed.setdefault(name[7:], value)
        elif type(value) is dict and name not in ("custom_fields", "triggered_event", "changes"):
            for inner, scalar in list(value.items())[:50]:
                if type(scalar) in (str, int, float, bool) and scalar != "":
                    plain.setdefault(f"{name}_{inner.lower()}", scalar)
        else:
            plain.setdefault(name, value)
    plain.update(prefixed)
    return plain


def _form(body: bytes) -> dict[str, Any]:
    """`ticket_id=11`, `freshdesk_webhook[ticket_id]=11`, or one field that holds JSON."""
    document: dict[str, Any] = {}
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), max_num_fields=MAX_FIELDS)
    except ValueError:
        raise NotADelivery(f"the form has more than {MAX_FIELDS} fields") from None
    for name, value in pairs:
        named = _FORM_NAME.fullmatch(name)
        if named and named[1] is not None:
            outer = document.setdefault(name[: named.start(1) - 1], {})
            if type(outer) is dict:
                outer[named[1]] = value
        else:
            document[name] = value
    if len(document) == 1:
        (name, only), *_ = document.items()
        if type(only) is str and only.lstrip().startswith("{"):
            inner = lenient_object(only.encode())
            return inner if name not in WRAPPERS or name in inner else {name: inner}
    if not document:
        raise NotADelivery("the body is no form and no JSON")
    return document


def _xml(body: bytes) -> dict[str, Any]:
    """Elements as members, without attributes; a document type is refused, for it can name entities that grow."""
    from xml.etree import ElementTree  # only rules that send XML pay for it

    if b"<!DOCTYPE" in body or b"<!ENTITY" in body or len(body) > MAX_XML:
        raise NotADelivery("the body is XML with a document type, or larger than is read")
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - without a document type there are no entities to expand
    except (ElementTree.ParseError, ValueError, LookupError):
        raise NotADelivery("the body is XML that cannot be read; send JSON") from None
    name, content = _name(root.tag), _element(root, 0)
    if type(content) is not dict:
        raise NotADelivery("the body is XML without fields")
    return {name: content} if name in WRAPPERS else content


def _element(element: Any, depth: int) -> Any:
    if not len(element) or depth >= MAX_XML_DEPTH:
        return element.text or ""
    return {_name(child.tag): _element(child, depth + 1) for child in element}


def _name(tag: str) -> str:
    return tag.rpartition("}")[2].replace("-", "_")


def _object(value: Any) -> dict[str, Any]:
    return value if type(value) is dict else {}
