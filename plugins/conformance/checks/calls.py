"""What is asked of the tool happens there; what goes wrong is named by what to do about it.

A fault hits the very request that writes, which the sandbox's ledger tells; everything before it (a token, a look-up) goes well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from plugins.api import (
    ApiError,
    CallTimedOut,
    Conflict,
    ConnectFailed,
    CredentialsRefused,
    FatalApiError,
    NewTicket,
    NotFound,
    Priority,
    RateLimited,
    RetriableApiError,
    ServerError,
    TicketingToolPlugin,
    TicketMetadata,
    TicketStatus,
    TornAnswer,
    ValidationRefused,
)
from plugins.conformance.builders import MANY, a_change, a_note
from plugins.conformance.check import CheckFailed, NotApplicable, check, require, same
from plugins.conformance.proxy import ProxyFault
from plugins.conformance.stand import IMPATIENT, Stand
from plugins.http.limits import Limits
from plugins.marker import note_marker
from schemas.ids import new_event_id

NOWHERE = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""


async def failure(call: Awaitable[object], kind: type[ApiError], what: str) -> ApiError:
    """The error of a call that must fail in this way."""
    try:
        await call
    except kind as exc:
        return exc
    except ApiError as exc:
        raise CheckFailed(f"{what}: {type(exc).__name__} in place of {kind.__name__} ({exc})") from exc
    except TimeoutError as exc:
        raise CheckFailed(f"{what}: no end within its time") from exc
    except Exception as exc:
        raise CheckFailed(f"{what}: {type(exc).__name__} in place of {kind.__name__}: {str(exc)[:120]}") from exc
    raise CheckFailed(f"{what}: the call ends well, {kind.__name__} is due")


async def metadata_of(plugin: TicketingToolPlugin, ticket_id: str) -> TicketMetadata:
    """The ticket; a wrong kind of answer fails the check."""
    metadata = await plugin.get_ticket(ticket_id)
    require(isinstance(metadata, TicketMetadata), f"get_ticket answers {type(metadata).__name__}")
    return metadata


@check("calls.create", "A mirrored ticket that loses its words on the way is worse than none.")
async def create(stand: Stand) -> None:
    plugin, seen = stand.plugin(), len(stand.sandbox.ledger())
    asked = stand.a_ticket(tags=("gate 2",))
    ref = await plugin.create_ticket(asked)
    metadata = await metadata_of(plugin, ref.ticket_id)
    same(metadata.ticket_id, ref.ticket_id, "ticket_id")
    same((metadata.subject, metadata.type, metadata.priority), (asked.subject, asked.type, asked.priority), "subject, type and priority")
    require(metadata.status in (TicketStatus.NEW, TicketStatus.OPEN), f"a new ticket's status is {metadata.status}")
    require(metadata.created_at is not None, "created_at is not told")
    rows = [row for row in stand.sandbox.ledger(seen) if row["kind"] == "create"]
    same([row["ticket_id"] for row in rows], [ref.ticket_id], "what was created in the tool")
    same(
        (rows[0]["external_id"], rows[0]["marker"]), (asked.external_id, asked.event_id), "our id and our event's id stored with the ticket"
    )
    same(rows[0]["actor"], "api", "who created it")


@check("calls.update", "A change reaches the ticket, the whole of it, and answers the ticket's new time.")
async def update(stand: Stand) -> None:
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    wanted, low = (stand.told.types[-1] if stand.told.types else None), stand.priority(Priority.LOW)
    updated = await plugin.update_ticket(ref.ticket_id, a_change(subject="New reader ordered", priority=low, type=wanted))
    same(updated.ticket_id, ref.ticket_id, "the id update_ticket answers")
    metadata = await metadata_of(plugin, ref.ticket_id)
    same((metadata.subject, metadata.priority), ("New reader ordered", low), "subject and priority after the update")
    if wanted is not None:
        same(metadata.type, wanted, "the type after the update")
    if updated.updated_at is not None:
        same(updated.updated_at, metadata.updated_at, "updated_at as answered and as read")


@check("calls.update_leaves_the_rest", "None leaves a field as it is: a change of the subject must not reset a priority somebody chose.")
async def update_leaves_the_rest(stand: Stand) -> None:
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    before = await metadata_of(plugin, ref.ticket_id)
    await plugin.update_ticket(ref.ticket_id, a_change(subject="only this"))
    after = await metadata_of(plugin, ref.ticket_id)
    same(after.subject, "only this", "the subject")
    for name in ("priority", "type", "description"):
        same(getattr(after, name), getattr(before, name), f"{name} after a change of the subject")
    untouched = {before.status, TicketStatus.OPEN} if before.status is TicketStatus.NEW else {before.status}  # touched is no longer new
    require(after.status in untouched, f"status after a change of the subject: {after.status}, {before.status} is expected")


@check("calls.life", "A ticket is led through its life: that a tool wants a transition or a resolution is the plugin's business alone.")
async def life(stand: Stand) -> None:
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    for status in (TicketStatus.PENDING, TicketStatus.OPEN, TicketStatus.RESOLVED, TicketStatus.CLOSED):
        if status not in stand.told.statuses:
            continue
        await plugin.update_ticket(ref.ticket_id, a_change(status=status, subject=f"now {status}"))
        metadata = await metadata_of(plugin, ref.ticket_id)
        same((metadata.status, metadata.subject), (status, f"now {status}"), "status and subject")


@check("calls.pagination", "Listings come in pages, and the last page counts as much as the first.")
async def pagination(stand: Stand) -> None:
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    notes = [a_note("busy") for _ in range(MANY)]
    for note in notes:
        await plugin.add_note(ref.ticket_id, note)
    for at in (0, 1, MANY // 2, MANY - 1):
        require(await plugin.has_note(ref.ticket_id, notes[at].marker), f"note {at + 1} of {MANY} is not found by has_note")
    require(not await plugin.has_note(ref.ticket_id, note_marker(new_event_id(), 1)), "has_note finds a marker nobody wrote")


@check(
    "calls.missing_ticket", "Each tool has its own way to say that there is no such ticket; here it is NotFound and nothing is in doubt."
)
async def missing_ticket(stand: Stand) -> None:
    plugin, absent = stand.plugin(), stand.told.missing_id
    change, note = a_change(subject="x"), a_note("x")
    calls: dict[str, Awaitable[object]] = {
        "get_ticket": plugin.get_ticket(absent),
        "update_ticket": plugin.update_ticket(absent, change),
        "add_note": plugin.add_note(absent, note),
        "has_update": plugin.has_update(absent, change.event_id),
        "has_note": plugin.has_note(absent, note.marker),
    }
    for name, call in calls.items():
        error = await failure(call, NotFound, f"{name} of a ticket that does not exist")
        require(not error.in_doubt, f"{name} of a ticket that does not exist is in doubt")


@check("calls.hostile_id", "Ids come from webhooks, and so from outside: none may lead to another path of the tool's API.")
async def hostile_id(stand: Stand) -> None:
    plugin = stand.plugin()
    await stand.created(plugin)
    for hostile in ("../../myself", "1/../2", "1?x=y", "%2e%2e", "1#", " ", "", "1\r\nX: y", "${jndi}", "1' OR '1'='1", "ü"):
        await failure(plugin.get_ticket(hostile), FatalApiError, f"get_ticket({hostile!r})")


@check("calls.refused_value", "Who reads the dead letter must see which setting to mend: the refused field is named.")
async def refused_value(stand: Stand) -> None:
    field = stand.told.strange_field
    if not field:
        raise NotApplicable("strange_field is empty: this tool ignores fields it does not know")
    error = await failure(stand.plugin().create_ticket(stand.a_ticket(custom_fields={field: "x"})), ValidationRefused, f"the field {field}")
    require(field in str(error), f"the error does not name the field {field}: {error}")


@check(
    "calls.errors_in_the_tools_form",
    "Retry, search first or dead letter: the class and the doubt decide, for every status the tool answers with.",
)
async def errors_in_the_tools_form(stand: Stand) -> None:
    write = await stand.creating(stand.plugin())
    path = {"path": write.path} if write.path else {}
    for status, kind, in_doubt in (
        (400, ValidationRefused, False),
        (401, CredentialsRefused, False),
        (403, CredentialsRefused, False),
        (404, NotFound, False),
        (500, ServerError, True),
        (502, ServerError, True),
        (503, ServerError, False),
    ):
        asked, plugin = stand.a_ticket(), stand.plugin()
        stand.sandbox.fault(status=status, method=write.method, times=4, **path)
        error = await failure(plugin.create_ticket(asked), kind, f"create_ticket answered {status}")
        stand.sandbox.clear_faults()
        same((error.status, error.in_doubt), (status, in_doubt), f"status and in_doubt of create_ticket answered {status}")
        told(error, asked, f"create_ticket answered {status}")
        same(stand.effects(asked.external_id), [], f"effects of create_ticket answered {status}")


def told(error: ApiError, asked: NewTicket, what: str) -> None:
    require(asked.subject not in str(error), f"{what}: the error's text quotes the ticket")


async def answered(stand: Stand, status: int, kind: type[ApiError], headers: dict[str, str] | None = None) -> ApiError:
    """create_ticket's error when a gateway before the tool answers this status to the request that writes."""
    write = await stand.creating(stand.plugin())
    plugin, asked = stand.plugin(), stand.a_ticket()
    stand.proxy.arm(ProxyFault(kind="status", status=status, headers=headers or {}, method=write.method, path=write.path, times=4))
    error = await failure(plugin.create_ticket(asked), kind, f"create_ticket answered {status} by a gateway")
    stand.proxy.calm()
    same(error.status, status, "the error's status")
    told(error, asked, f"create_ticket answered {status} by a gateway")
    same(stand.effects(asked.external_id), [], f"effects of create_ticket answered {status}")
    return error


@check("calls.not_found_by_gateway", "A 404 that is a gateway's page is NotFound too: who answers is not always the tool.")
async def not_found_by_gateway(stand: Stand) -> None:
    await answered(stand, 404, NotFound)


@check("calls.conflict", "409 is Conflict: the ticket changed since it was read, and reading it again is what helps.")
async def conflict(stand: Stand) -> None:
    await answered(stand, 409, Conflict)


@check("calls.unprocessable", "422 is ValidationRefused: repeating the same values will never help.")
async def unprocessable(stand: Stand) -> None:
    await answered(stand, 422, ValidationRefused)


@check("calls.rate_limited", "429 with Retry-After hands the tool's own wait on: the stream waits as long as asked, and no longer.")
async def rate_limited(stand: Stand) -> None:
    error = await answered(stand, 429, RateLimited, {"retry-after": "7"})
    same((error.retry_after, error.in_doubt), (7.0, False), "retry_after and in_doubt")


@check(
    "calls.rate_limited_silently",
    "429 without Retry-After is RateLimited as well; the stream chooses the wait, and a write is not repeated.",
)
async def rate_limited_silently(stand: Stand) -> None:
    error = await answered(stand, 429, RateLimited)
    same((error.retry_after, error.in_doubt), (None, False), "retry_after and in_doubt")


@check("calls.server_error", "A 5xx to a write leaves doubt, and the call is not repeated by itself: it would make two.")
async def server_error(stand: Stand) -> None:
    write = await stand.creating(stand.plugin())
    plugin, asked = stand.plugin(), stand.a_ticket()
    fault = ProxyFault(kind="status", status=502, method=write.method, path=write.path, carried_out=True)
    stand.proxy.arm(fault)
    error = await failure(plugin.create_ticket(asked), ServerError, "create_ticket answered 502")
    require(error.in_doubt, "create_ticket answered 502 is not in doubt, and the ticket may be there")
    same(stand.effects(asked.external_id), ["create"], "effects of one create_ticket answered 502 after the fact")


async def doubtful(stand: Stand, fault: ProxyFault, kind: type[ApiError], what: str, limits: Limits = IMPATIENT) -> None:
    """One write whose answer is spoilt: an error in doubt, one effect, found by a search."""
    write = await stand.creating(stand.plugin())
    fault.method, fault.path = write.method, write.path
    plugin, asked = stand.plugin(limits=limits), stand.a_ticket()
    await stand.created(plugin)
    stand.proxy.arm(fault)
    try:
        async with asyncio.timeout(6):
            error = await failure(plugin.create_ticket(asked), kind, what)
    except TimeoutError:
        raise CheckFailed(f"{what}: the call outlives its client's limits") from None
    stand.proxy.calm()
    require(error.in_doubt, f"{what}: {type(error).__name__} is not in doubt, though the ticket may be there")
    expected = ["create"] if fault.carried_out or fault.kind in ("half", "drip") else []
    same(stand.effects(asked.external_id), expected, f"effects of one create_ticket, {what}")


@check("calls.timeout", "No answer is no refusal: the write is in doubt, and is not sent again behind our back.")
async def timeout(stand: Stand) -> None:
    await doubtful(stand, ProxyFault(kind="hang", carried_out=True), CallTimedOut, "the tool does it and never answers")


@check("calls.reset", "A connection that breaks after the request leaves doubt; a client that repeats by itself would make two.")
async def reset(stand: Stand) -> None:
    await doubtful(stand, ProxyFault(kind="reset", carried_out=True), RetriableApiError, "the connection breaks before the answer")


@check("calls.half_written", "Half an answer is no answer: 200 was read, the ticket's id was not.")
async def half_written(stand: Stand) -> None:
    await doubtful(stand, ProxyFault(kind="half"), RetriableApiError, "half of a success is written")


@check("calls.slow_loris", "An answer that comes a byte at a time ends at the client's limit, or one slow tool holds every worker.")
async def slow_loris(stand: Stand) -> None:
    await doubtful(stand, ProxyFault(kind="drip"), RetriableApiError, "the answer comes byte by byte", Limits(read=0.3, total=0.5))


@check("calls.gateway_page", "200 with a gateway's page is no ticket: it is repeated, never taken for an answer.")
async def gateway_page(stand: Stand) -> None:
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    stand.proxy.arm(ProxyFault(kind="page", times=9))
    error = await failure(plugin.get_ticket(ref.ticket_id), ApiError, "get_ticket answered 200 and a gateway's page")
    require(isinstance(error, TornAnswer | RetriableApiError), f"a gateway's page is {type(error).__name__}, which nobody repeats")


@check("calls.unreachable", "Where nothing listens nothing was sent: that is ConnectFailed, and not in doubt.")
async def unreachable(stand: Stand) -> None:
    plugin = stand.plugin(base_url=NOWHERE)
    error = await failure(plugin.create_ticket(stand.a_ticket()), ConnectFailed, "create_ticket where nothing listens")
    require(not error.in_doubt, "create_ticket where nothing listens is in doubt")


@check("calls.read_repeated", "Reading twice harms nobody: a hiccup during a read is not worth a retry topic.")
async def read_repeated(stand: Stand) -> None:
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    await plugin.get_ticket(ref.ticket_id)
    for fault in (ProxyFault(kind="status", status=503, method="GET"), ProxyFault(kind="reset", method="GET")):
        seen = len(stand.proxy.seen)
        stand.proxy.arm(fault)
        same((await metadata_of(plugin, ref.ticket_id)).ticket_id, ref.ticket_id, "the ticket read after a hiccup")
        if not any(request.method == "GET" for request in stand.proxy.seen[seen:]):
            raise NotApplicable("this tool reads tickets with a method that is not GET, so its reads are not known to be safe")


@check("calls.unauthorized_once", "A token that ran out is renewed once and the call goes on; a key that was revoked is told at once.")
async def unauthorized_once(stand: Stand) -> None:
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    cold, seen = stand.plugin(), len(stand.proxy.seen)
    await cold.get_ticket(ref.ticket_id)
    first = len(stand.proxy.seen) - seen
    await cold.get_ticket(ref.ticket_id)
    fetches_tokens = first > len(stand.proxy.seen) - seen - first
    stand.proxy.arm(ProxyFault(kind="status", status=401))
    try:
        metadata = await cold.get_ticket(ref.ticket_id)
    except CredentialsRefused:
        require(not fetches_tokens, "a token is fetched before the first call, and not renewed when the tool answers 401")
        return
    same(metadata.ticket_id, ref.ticket_id, "the ticket read with a renewed token")


@check(
    "calls.unauthorized_for_good",
    "Credentials that are refused again and again are told after a few requests: a stampede locks the account.",
)
async def unauthorized_for_good(stand: Stand) -> None:
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    stand.proxy.arm(ProxyFault(kind="status", status=401, times=1_000))
    seen = len(stand.proxy.seen)
    calls = [failure(plugin.get_ticket(ref.ticket_id), ApiError, "get_ticket answered 401 for good") for _ in range(10)]
    for error in await asyncio.gather(*calls):
        require(
            isinstance(error, CredentialsRefused), f"get_ticket answered 401 for good: {type(error).__name__}, CredentialsRefused is due"
        )
    sent = len(stand.proxy.seen) - seen
    require(sent <= 40, f"ten calls that are answered 401 make {sent} requests")


@check("calls.health", "A check that passes with a wrong password is worse than none; a good one names our account, so echoes are known.")
async def health(stand: Stand) -> None:
    good = await stand.plugin().health_check()
    require(good.ok, f"health_check with the sandbox's own credentials: {good.detail}")
    same(good.actor, stand.sandbox.credentials["actor"], "the account health_check names")


@check("calls.health_refused", "Wrong credentials are told by health_check in words, and by every call as CredentialsRefused.")
async def health_refused(stand: Stand) -> None:
    known = stand.sandbox.credentials["auth"]
    bad = stand.plugin(auth={name: wrong(value) for name, value in known.items()})
    found = await bad.health_check()
    require(not found.ok and found.detail, "health_check with wrong credentials says that all is well, or says nothing")
    await failure(bad.create_ticket(stand.a_ticket()), CredentialsRefused, "create_ticket with wrong credentials")
    await failure(bad.find_by_external_id("aia-nothing"), CredentialsRefused, "find_by_external_id with wrong credentials")


def wrong(value: object) -> object:
    """A credential of the same kind that opens nothing; what is no text (a port, a scope list) stays."""
    return "wrong" if isinstance(value, str) and not value.startswith("http") else value


@check("calls.health_unreachable", "Where nothing answers health_check says so: it raises nothing.")
async def health_unreachable(stand: Stand) -> None:
    found = await stand.plugin(base_url=NOWHERE).health_check()
    require(not found.ok and found.detail, "health_check where nothing listens says that all is well, or says nothing")
