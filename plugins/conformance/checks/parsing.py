"""Whatever a body holds, it becomes a ticket in canonical words or NotADelivery, soon, and never another exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from types import FrameType
from typing import Any
from urllib.parse import quote

from plugins.api import (
    Delivery,
    DeliveryIdentity,
    NotADelivery,
    Priority,
    TicketChange,
    TicketingToolPlugin,
    TicketMetadata,
    TicketStatus,
    TicketType,
)
from plugins.conformance import bodies
from plugins.conformance.check import CheckFailed, NotApplicable, check, require
from plugins.conformance.stand import Stand
from plugins.conformance.subject import Fixture

CPU_SECONDS = 2.0
"""For one body of 5 MB, or some hundreds of usual size: a hundred times what they need."""
LARGE = 5 << 20
ENUMS = {"type": TicketType, "priority": Priority, "status": TicketStatus, "change": TicketChange}


class TookTooLong(Exception):
    """The CPU time of one step is used up."""


@contextmanager
def bounded(seconds: float = CPU_SECONDS) -> Iterator[None]:
    """Ends the block with TookTooLong after this much CPU time; in the main thread only, where signals arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def delivery_of(fixture: Fixture, body: bytes | None = None) -> Delivery:
    """A fixture as it would have come; `body` takes the place of its own."""
    told = fixture.told or {}
    headers = {str(name).lower(): str(value) for name, value in (told.get("headers") or {}).items()}
    return Delivery(
        tenant="acme",
        tool="target",
        body=fixture.body if body is None else body,
        headers=headers,
        content_type=headers.get("content-type", "application/json"),
        query=quote(str(told.get("query") or ""), safe="=&%+;/:?@!$'()*,~"),
        received_at=1_772_433_900_000_000,
    )


def read(plugin: TicketingToolPlugin, delivery: Delivery, what: str) -> TicketMetadata | None:
    """What the plugin makes of a delivery: canonical words, or None where it is none; anything else fails the check."""
    try:
        with bounded():
            key, identity = plugin.ticket_key(delivery), plugin.identify(delivery)
            try:
                metadata = plugin.extract_metadata(delivery)
            except NotADelivery:
                metadata = None
    except TookTooLong:
        raise CheckFailed(f"{what}: not read within {CPU_SECONDS:g} s of CPU time") from None
    except Exception as exc:
        raise CheckFailed(f"{what}: {type(exc).__name__}: {str(exc)[:120]}") from exc
    require(key is None or isinstance(key, str), f"{what}: ticket_key answers {type(key).__name__}")
    require(identity is None or isinstance(identity, DeliveryIdentity), f"{what}: identify answers {type(identity).__name__}")
    if metadata is not None:
        well_formed(metadata, what)
        require(key in (None, metadata.ticket_id), f"{what}: ticket_key says {key!r}, extract_metadata {metadata.ticket_id!r}")
    return metadata


def well_formed(metadata: TicketMetadata, what: str) -> None:
    """Each field is of its kind, so whatever comes later can rely on it."""
    require(isinstance(metadata.ticket_id, str) and metadata.ticket_id, f"{what}: the ticket has no id")
    require(metadata.tenant_id == "acme", f"{what}: the tenant is {metadata.tenant_id!r}, not the delivery's")
    for name, kind in ENUMS.items():
        require(isinstance(getattr(metadata, name), kind), f"{what}: {name} is {getattr(metadata, name)!r}, not a {kind.__name__}")
    for name in ("subject", "description"):
        require(isinstance(getattr(metadata, name), str), f"{what}: {name} is no text")
    for name in ("requester", "assignee", "actor", "url"):
        require(isinstance(getattr(metadata, name), str | None), f"{what}: {name} is no text")
    for name in ("sla_due_at", "created_at", "updated_at"):
        value = getattr(metadata, name)
        require(value is None or type(value) is int, f"{what}: {name} is {value!r}, not whole microseconds")
    require(isinstance(metadata.tags, tuple) and all(isinstance(t, str) for t in metadata.tags), f"{what}: tags are no tuple of texts")


def fixtures(stand: Stand) -> tuple[Fixture, ...]:
    found = stand.subject.fixtures
    if not found:
        raise CheckFailed("the plugin's folder has no fixtures/: there is no delivery to try")
    return found


def documents(stand: Stand) -> Iterator[tuple[Fixture, Any, TicketingToolPlugin]]:
    """Each fixture that is JSON and yields a ticket, decoded, with a plugin of its settings."""
    for fixture in fixtures(stand):
        document = bodies.as_json(fixture.body)
        if document is not None and not (fixture.told or {}).get("error"):
            yield fixture, document, stand.reader(**fixture.settings)


def plain(value: Any) -> Any:
    """A value as YAML would hold it."""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, Mapping):
        return {str(name): plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(member) for member in value]
    return value


def found_in(metadata: TicketMetadata, path: str) -> Any:
    """A field by name, or a member of one: "extra.comment"."""
    name, _, rest = path.partition(".")
    value: Any = getattr(metadata, name, f"(no such field: {name})")
    for part in filter(None, rest.split(".")):
        value = value.get(part) if isinstance(value, Mapping) else None
    return plain(value)


@check("parsing.fixtures", "Each kept delivery yields exactly what its author says it does.")
async def fixtures_yield(stand: Stand) -> None:
    wrong = []
    for fixture in fixtures(stand):
        if fixture.told is None:
            continue
        metadata = read(stand.reader(**fixture.settings), delivery_of(fixture), fixture.name)
        if (wanted := fixture.told.get("error")) or metadata is None:
            if (wanted == "NotADelivery") != (metadata is None):
                wrong.append(f"{fixture.name}: {'a ticket' if metadata else 'NotADelivery'}, {wanted or 'a ticket'} is expected")
            continue
        for path, value in (fixture.told.get("expect") or {}).items():
            got = found_in(metadata, path)
            if isinstance(value, dict) and isinstance(got, dict):
                got = {name: got.get(name) for name in value}
            if got != plain(value):
                wrong.append(f"{fixture.name}: {path} is {got!r}, {value!r} is expected")
    require(not wrong, "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""))


@check(
    "parsing.fixtures_described",
    "A kept delivery nobody said anything about proves nothing: each is in expected.yaml, and nothing else is.",
)
async def fixtures_described(stand: Stand) -> None:
    silent = [f.name for f in fixtures(stand) if f.told is None or not (f.told.get("expect") or f.told.get("error"))]
    require(not silent, f"expected.yaml says nothing of: {', '.join(silent[:8])}")
    gone = list(stand.subject.unfounded())
    require(not gone, f"expected.yaml tells of files that are not there: {', '.join(gone[:8])}")


@check(
    "parsing.event_kinds",
    "Fixtures show at least a ticket created and a ticket changed or commented on: without these nothing is mirrored.",
)
async def event_kinds(stand: Stand) -> None:
    kinds = set()
    for fixture in fixtures(stand):
        metadata = read(stand.reader(**fixture.settings), delivery_of(fixture), fixture.name)
        kinds |= {metadata.change} if metadata else set()
    require(TicketChange.CREATED in kinds, "no fixture yields change = created")
    require(kinds & {TicketChange.UPDATED, TicketChange.COMMENTED, TicketChange.RESOLVED}, "no fixture yields a later change")


@check(
    "parsing.unknown_event",
    "A tool's next release sends events nobody has heard of: they are read as far as they can be, or set aside by name.",
)
async def unknown_event(stand: Stand) -> None:
    for fixture, document, plugin in documents(stand):
        for place in bodies.strings(document):
            body = bodies.encoded(bodies.put(document, place, "zz:never_heard_of"))
            read(plugin, delivery_of(fixture, body), f"{fixture.name} with an unknown word at {'.'.join(map(str, place))}")
        odd = delivery_of(fixture)
        headers = dict.fromkeys(odd.headers, "zz.never.heard.of")
        told = Delivery(tenant="acme", tool="target", body=odd.body, headers=headers, query="event=zz&type=zz", received_at=odd.received_at)
        read(plugin, told, f"{fixture.name} with unknown headers and query")


@check(
    "parsing.unknown_word",
    "A priority, status or type of the customer's own invention becomes UNKNOWN and is listed in extra, so that it is noticed.",
)
async def unknown_word(stand: Stand) -> None:
    word = "zz-own-word"
    for fixture, document, plugin in documents(stand):
        before = read(plugin, delivery_of(fixture), fixture.name)
        if before is None:
            continue
        for place in bodies.strings(document):
            what = f"{fixture.name} with an own word at {'.'.join(map(str, place))}"
            after = read(plugin, delivery_of(fixture, bodies.encoded(bodies.put(document, place, word))), what)
            if after is None:
                continue
            for name in ("type", "priority", "status"):
                known = getattr(before, name).value != "unknown"
                if known and getattr(after, name).value == "unknown":
                    listed = plain(after.extra.get("unknown") or {})
                    require(name in listed or word in str(listed), f"{what}: {name} became unknown, and extra['unknown'] does not say so")


@check("parsing.missing_fields", "Any part of a body may be left out by a setting, a plan or a permission.")
async def missing_fields(stand: Stand) -> None:
    for fixture, document, plugin in documents(stand):
        for what, body in bodies.shortened(document):
            read(plugin, delivery_of(fixture, body), f"{fixture.name} {what}")


@check("parsing.wrong_types", "A number where a text was, a list where an object was: no value can make reading fail in another way.")
async def wrong_types(stand: Stand) -> None:
    seen: set[tuple[tuple[str | int, ...], str]] = set()
    for fixture, document, plugin in documents(stand):
        places = list(bodies.places(document))[: bodies.MAX_PLACES]
        kinds = {place: (place, type(bodies.at_place(document, place)).__name__) for place in places}
        new = [place for place in places if kinds[place] not in seen]  # most fixtures share most of their shape
        seen.update(kinds.values())
        for what, body in bodies.spoilt(document, new):
            read(plugin, delivery_of(fixture, body), f"{fixture.name} with {what}")


@check("parsing.large_body", "Five megabytes of ticket are read in bounded time: one customer's log file must not hold up the others.")
async def large_body(stand: Stand) -> None:
    for fixture, document, plugin in longest(stand)[:1]:
        texts = sorted(bodies.strings(document), key=lambda p: len(bodies.at_place(document, p)))
        body = bodies.encoded(bodies.put(document, texts[-1], "word and word. " * (LARGE // 15)) if texts else document)
        read(plugin, delivery_of(fixture, body), f"{fixture.name} with 5 MB of text")
        if isinstance(document, dict):
            many = b'{"zz":[' + b'{"a":1},' * (LARGE // 8) + b"{}]," + bodies.encoded(document)[1:]
            read(plugin, delivery_of(fixture, many), f"{fixture.name} with 5 MB of list")


@check(
    "parsing.hostile_text",
    "Half a megabyte of one character, bracket or tag is read in bounded time: rich text is where parsers go quadratic.",
)
async def hostile_text(stand: Stand) -> None:
    for fixture, document, plugin in longest(stand):
        for place in sorted(bodies.strings(document), key=lambda p: -len(str(bodies.at_place(document, p))))[:4]:
            for run in bodies.RUNS:
                body = bodies.encoded(bodies.put(document, place, run * ((1 << 17) // len(run))))
                read(plugin, delivery_of(fixture, body), f"{fixture.name} with {run!r} repeated at {'.'.join(map(str, place))}")


def longest(stand: Stand) -> list[tuple[Fixture, Any, TicketingToolPlugin]]:
    """The two fixtures with the most in them: trying all would only take longer."""
    return sorted(documents(stand), key=lambda found: -len(found[0].body))[:2]


@check("parsing.deep_nesting", "A hundred thousand brackets are a body too: no stack overflows over them.")
async def deep_nesting(stand: Stand) -> None:
    for fixture in fixtures(stand)[:1]:
        plugin = stand.reader(**fixture.settings)
        for depth in (900, 100_000):
            for what, body in bodies.nested(depth):
                read(plugin, delivery_of(fixture, body), f"{depth} {what}")
    for fixture, document, plugin in longest(stand):
        for place in list(bodies.places(document))[:60]:
            deep = bodies.encoded(bodies.put(document, place, "@@")).replace(b'"@@"', b"[" * 500 + b"]" * 500)
            read(plugin, delivery_of(fixture, deep), f"{fixture.name} with 500 lists at {'.'.join(map(str, place))}")


@check("parsing.not_json", "An empty, torn, binary or foreign body is set aside as NotADelivery, never half read.")
async def not_json(stand: Stand) -> None:
    plugin = stand.reader()
    odd = [
        b"",
        b" ",
        b"null",
        b"[]",
        b"{}",
        b"0",
        b'""',
        b"\xff\xfe\x00\x00",
        b"\x1f\x8b\x08\x00",
        b"<xml/>",
        b"--b\r\n\r\n--b--",
        b"a=b&c=d",
    ]
    for body in odd:
        delivery = Delivery(tenant="acme", tool="target", body=body, headers={}, content_type="application/json", received_at=1)
        require(read(plugin, delivery, f"the body {body[:12]!r}") is None, f"the body {body[:12]!r} yields a ticket")
    for fixture in fixtures(stand):
        plugin, whole = stand.reader(**fixture.settings), fixture.body
        for at in {len(whole) // 4, len(whole) // 2, len(whole) - 1}:
            read(plugin, delivery_of(fixture, whole[:at]), f"{fixture.name} torn after {at} bytes")


@check("parsing.strange_json", "Byte order marks, NaN, repeated members and lone surrogates are all sent by somebody.")
async def strange_json(stand: Stand) -> None:
    for fixture in fixtures(stand):
        plugin, whole = stand.reader(**fixture.settings), fixture.body
        for what, body in (
            ("a byte order mark", b"\xef\xbb\xbf" + whole),
            ("NaN", whole.replace(b": 1", b": NaN").replace(b":1", b":NaN")),
            ("a lone surrogate", whole.replace(b"e", b"\\ud800", 3)),
            ("repeated members", whole.replace(b"{", b'{"id":0,"id":"x",')),
            ("Latin-1", whole.replace(b"a", b"\xe4")),
            ("UTF-16", whole.decode("utf-8", "replace").encode("utf-16")),
        ):
            read(plugin, delivery_of(fixture, body), f"{fixture.name} with {what}")


@check("parsing.pure", "The same delivery always yields the same ticket: an event read again at a replay must decide the same.")
async def pure(stand: Stand) -> None:
    for fixture in fixtures(stand):
        first = read(stand.reader(**fixture.settings), delivery_of(fixture), fixture.name)
        plugin = stand.reader(**fixture.settings)
        second, third = (read(plugin, delivery_of(fixture), fixture.name) for _ in range(2))
        require(first == second == third, f"{fixture.name} is read in two ways")


@check(
    "parsing.tenant", "The tenant is the address the delivery came to, never a word in its body: one customer must not write as another."
)
async def tenant(stand: Stand) -> None:
    for fixture, document, plugin in documents(stand):
        if isinstance(document, dict):
            claimed = {**document, "tenant": "globex", "tenant_id": "globex", "account_id": "globex"}
            read(plugin, delivery_of(fixture, bodies.encoded(claimed)), f"{fixture.name} that claims another tenant")


@check("parsing.admin_body", "Where an admin writes the body, the tenant's paths say where its fields are.")
async def admin_body(stand: Stand) -> None:
    if "webhook.fields" not in stand.subject.manifest.settings:
        raise NotApplicable("plugin.toml has no setting webhook.fields: this tool's bodies have one shape")
    plugin = stand.reader(webhook={**stand.settings()["webhook"], "fields": {"ticket_id": "$.what.number", "subject": "$.what.title"}})
    body = bodies.encoded({"what": {"number": 4711, "title": "Door 7"}, "id": "not this"})
    delivery = Delivery(tenant="acme", tool="target", body=body, headers={}, content_type="application/json", received_at=1)
    metadata = read(plugin, delivery, "a body of the admin's own shape")
    seen = (metadata.ticket_id, metadata.subject) if metadata else None
    require(seen == ("4711", "Door 7"), "webhook.fields is not followed for ticket_id and subject")
