"""A delivery opened: its layers, what is looked for in them, what was said and what was changed. Pure.

There is no vendor-defined body. Known without configuration: flat JSON, JSON in a wrapper (`freshservice_webhook`, and the older
`freshdesk_webhook`, which Freshservice sends too), a record nested in `ticket`, `problem`, `change` or `release`, a marketplace app's
envelope, each also inside a form, and each also broken by its placeholders (plugins/repair.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, unquote_plus

from plugins.api import Delivery, NotADelivery
from plugins.freshservice.records import BY_PREFIX, RECORDS, TICKET, Record, parse_id
from plugins.mapping import FieldMap, json_object, to_id, to_text
from plugins.richtext import from_html, to_plain

Json = dict[str, Any]

WRAPPERS: Final = ("freshservice_webhook", "freshdesk_webhook")
_RECORD_NAMES: Final[Mapping[str, Record]] = {**RECORDS, "incident": TICKET, "service_request": TICKET}
_IDS: Final = ("display_id", "human_display_id", "id")
FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "subject": ("ticket_subject", "subject", "title"),
    "text": ("description_text", "ticket_description_text"),
    "description": ("ticket_description", "description"),
    "priority": ("ticket_priority", "priority_id", "priority"),
    "status": ("ticket_status", "status_id", "status"),
    "type": ("ticket_type", "type"),
    "requester": (
        "requester_email",
        "ticket_requester_email",
        "requester",
        "email",
        "requester_id",
        "requester_name",
        "ticket_requester_name",
    ),
    "assignee": ("agent_email", "ticket_agent_email", "responder", "responder_id", "agent_id", "agent", "agent_name", "ticket_agent_name"),
    "tags": ("ticket_tags", "tags"),
    "created_at": ("created_at", "ticket_created_at", "created_on"),
    "updated_at": ("updated_at", "ticket_updated_at", "updated_on"),
    "sla_due_at": ("due_by", "ticket_due_by_time", "due_by_time", "ticket_due_by"),
    "fr_due_at": ("fr_due_by", "ticket_fr_due_by_time"),
    "url": ("ticket_url", "url"),
    "workspace": ("workspace_id", "ticket_workspace_id"),
    "event": ("event_type", "event", "action", "triggered_event"),
    "actor": ("actor_email", "actor", "performed_by_email", "performed_by", "updated_by", "actor_id"),
    "comment": (
        "comment_text",
        "comment",
        "note",
        "latest_note",
        "conversation",
        "latest_private_note",
        "latest_public_comment",
        "latest_comment",
    ),
    "custom_fields": ("custom_fields",),
    "external_id": ("external_id", "external_ref"),
}
"""Where the known shapes hold each canonical field: looked for in each layer of the body, outermost first."""

OTHER_MODULES: Final = frozenset({"asset", "task", "contract", "solution", "purchase order"})
_FROM_TO = re.compile(r"^\{?\s*(\w+)\s*:\s*\{\s*from")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")
_MARKUP = re.compile(r"</[a-zA-Z]+>|<(?:br|hr|img|div|p|span|ul|ol|table)\b")
_CHANGED: Final[Mapping[str, str]] = {
    "responder_id": "assignee",
    "agent_id": "assignee",
    "requester_id": "requester",
    "description_text": "description",
    "due_by": "sla_due_at",
}


def decoded(delivery: Delivery) -> Json:
    """The body as an object: JSON, JSON that placeholders broke, or a form, which may hold JSON as a value or as its only name.

    Raises NotADelivery.
    """
    body = delivery.body
    start = body.lstrip()[:3]
    if start[:1] == b"{" or (b"=" not in body and start != b"%7B"):
        return _object(body)
    text = body.decode("utf-8", "replace")
    if start == b"%7B":
        return _object(unquote_plus(text).rstrip("= \r\n").encode())
    try:
        form = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=200))
    except ValueError:
        raise NotADelivery("the form has more than 200 fields") from None
    for name in ("payload", "data", "json", "body"):
        if form.get(name, "").lstrip()[:1] == "{":
            return _object(form[name].encode("utf-8", "replace"))
    if len(form) == 1 and not next(iter(form.values())):
        raise NotADelivery("the body is neither JSON nor a form; choose JSON encoding in the automator's webhook")
    return {name[name.rfind("[") + 1 :].rstrip("]") or name: value for name, value in form.items()}


def _object(body: bytes) -> Json:
    try:
        return json_object(body)
    except NotADelivery:
        from plugins.repair import lenient_object  # its patterns take milliseconds to compile, and most bodies are sound

        return lenient_object(body)


def _unwrapped(document: Json) -> Json:
    """The document inside a wrapper of somebody's own: an object as an object's only member."""
    for _ in range(3):
        name, value = next(iter(document.items()), ("", None))
        if len(document) != 1 or type(value) is not dict or name in WRAPPERS or name in _RECORD_NAMES:
            break
        document = value
    return document


def _snake_case(layer: Json) -> Json:
    """An object with its names as the tool writes them (ticketId, "Ticket ID": ticket_id); one that is so already wins."""
    strange = [name for name in layer if not name.islower() or "-" in name or " " in name]
    if not strange or len(layer) > 200:
        return layer
    found = {_HUMP.sub("_", name.strip()).replace("-", "_").replace(" ", "_").replace("__", "_").lower(): layer[name] for name in strange}
    return {**found, **{name: value for name, value in layer.items() if name not in strange}}


class Body:
    """One delivery, opened: the layers a field is looked for in, the kind of record, which a rule may state, and its number."""

    __slots__ = ("actor", "changes", "kind", "kind_is_known", "layers", "mapped", "number", "prefix", "record")

    def __init__(self, document: Json, paths: FieldMap | None) -> None:
        self.mapped = {name: value for name, value in paths.read(document).items() if value is not None} if paths else {}
        outer = _snake_case(_unwrapped(document))
        data = outer.get("data")
        if type(data) is dict:  # a marketplace app's envelope: everything of interest but the event's name is in `data`
            outer = {**outer, **_snake_case(data)}
        layers = [outer, *(_snake_case(outer[name]) for name in WRAPPERS if type(outer.get(name)) is dict)]
        nested = next(((name, layer[name]) for layer in layers for name in _RECORD_NAMES if type(layer.get(name)) is dict), None)
        if nested is not None:
            layers.append(_snake_case(nested[1]))
        self.layers = layers
        self.actor, self.changes = outer.get("actor"), outer.get("changes")
        self.prefix, self.number, record = self._identified(_RECORD_NAMES[nested[0]] if nested else None)
        self.kind = to_text(self.mapped.get("kind") or self.first(("kind", "module", "record_type"))).strip().lower()
        said = RECORDS.get(self.kind) or RECORDS.get(self.kind.rstrip("s"))
        self.record: Record = BY_PREFIX.get(self.prefix) or said or record or TICKET
        self.kind_is_known = not self.kind or said is not None

    def _identified(self, nested: Record | None) -> tuple[str, str | None, Record | None]:
        """(prefix, number, kind): by the name the id stands under, and the record it stands in; a link to another record counts last."""
        said = [layer[name] for layer in self.layers for name in ("conversation", "note") if type(layer.get(name)) is dict]
        places = [(layer, "ticket_id", nested) for layer in (*self.layers, *said)]
        if nested is not None:
            places += [(self.layers[-1], name, nested) for name in _IDS]
        places += [(layer, f"{name}_id", record) for name, record in RECORDS.items() for layer in (*self.layers, *said)]
        places += [(layer, name, nested) for layer in (*self.layers[1:], self.layers[0]) for name in _IDS]
        if (parsed := parse_id(self.mapped.get("ticket_id"))) is not None:
            return (*parsed, nested)
        for layer, name, record in places:
            if (parsed := parse_id(layer.get(name))) is not None:
                return (*parsed, record)
        return "", None, nested

    def first(self, names: tuple[str, ...]) -> Any:
        for layer in self.layers:
            for name in names:
                value = layer.get(name)
                if value is not None and value != "":
                    return value
        return None

    def get(self, field: str) -> Any:
        return self.mapped[field] if field in self.mapped else self.first(FIELDS[field])

    @property
    def ticket_id(self) -> str | None:
        """None also for a rule of another module, whose ids count something else."""
        return None if self.number is None or self.kind.rstrip("s") in OTHER_MODULES else self.record.id_of(self.number)


def plain(text: str) -> str:
    """Text out of what may be HTML: the tool's fields hold markup, its templates sometimes do not."""
    return to_plain(from_html(text)) if _MARKUP.search(text) else text


def unescaped(text: str) -> str:
    """A value the tool's form encoding left percent-encoded; a text with a space in it is none."""
    return unquote(text) if "%" in text and " " not in text and _ESCAPED.search(text) else text


def word_of(value: Any) -> str:
    """A closed field as a word: a name, a code, or the name in an object."""
    if type(value) is dict:
        value = next((value[name] for name in ("name", "label", "value", "id") if value.get(name) is not None), None)
    if type(value) is float and value.is_integer():
        value = int(value)
    return to_text(value).strip()


def person_of(value: Any) -> str | None:
    """A person as the body names them: by e-mail address where it can, else by id, else by name."""
    if type(value) is dict:
        value = next((value[name] for name in ("email", "primary_email", "id", "name") if value.get(name)), None)
    return to_id(value)


def device_of(assets: Any) -> Json | None:
    """The first asset a record is linked with."""
    first = assets[0] if type(assets) is list and assets else None
    return first if type(first) is dict else None


def comment_in(body: Body, extra: Json) -> tuple[bool, Any]:
    """Notes what was said, and whether the requester may read it, in `extra`; answers whether anything was, and by whom.

    What does not say that it is public counts as internal: a wrong guess the other way would show it to people outside.
    """
    value, source = body.mapped.get("comment"), "comment"
    if value is None:
        source = next((name for name in FIELDS["comment"] if body.first((name,)) is not None), "")
        value = body.first((source,)) if source else None
    author: Any = None
    public = body.mapped.get("comment_public", body.first(("comment_public", "note_public", "public")))
    said = to_text(value)
    if type(value) is dict:
        author = value.get("agent") or value.get("user") or value.get("author") or value.get("user_id")
        for name, meaning in (("private", False), ("public", True), ("is_private", False)):
            if value.get(name) is not None:
                public = meaning if _true(value[name]) else not meaning
        said = to_text(value.get("body_text")) or plain(to_text(value.get("body")))
    elif source != "comment_text":
        said = plain(unescaped(said))
    if not said:
        return False, author
    extra["comment"] = said
    extra["comment_public"] = source == "latest_public_comment" if public is None else _true(public)
    return True, author


def _true(value: Any) -> bool:
    return value is True or (isinstance(value, (str, int)) and str(value).strip().lower() in ("true", "1", "yes", "public"))


def changed_in(changes: Any, event: Any) -> tuple[str, ...]:
    """Which fields a delivery says were changed, by their canonical names: an app's `changes`, or a rule's `{status:{from:2,to:4}}`."""
    return tuple(dict.fromkeys(_CHANGED.get(name, name) for name in _changed_names(changes, event)))


def _changed_names(changes: Any, event: Any) -> Iterator[str]:
    if type(changes) is dict:
        yield from [str(name)[:80] for name in list(changes)[:50]]
    elif type(changes) is list:
        yield from [name[:80] for name in changes[:50] if type(name) is str]
    if type(event) is dict:
        yield from [str(name)[:80] for name, value in list(event.items())[:5] if type(value) is dict]
    elif type(event) is str and (found := _FROM_TO.match(event)):
        yield found[1]
