"""A plugin costs nothing until it is used and leaves nothing behind."""

from __future__ import annotations

import asyncio
import copy
import threading

from plugins.api import ApiError, TicketingToolPlugin
from plugins.capabilities import CAPABILITIES
from plugins.conformance.check import CheckFailed, NotApplicable, check, require
from plugins.conformance.figures import import_probe, load_ms
from plugins.conformance.proxy import ProxyFault
from plugins.conformance.stand import Stand, until
from plugins.http.limits import Limits

WARM_MS, COLD_MS = 20.0, 200.0
BASIC = ("get_ticket", "create_ticket", "update_ticket", "add_note", "find_by_external_id", "has_update", "has_note", "health_check")
PROMISED = {"cmdb": "device_context", "assets": "device_context", "sla": "sla_targets", "directory": "find_people"}
"""As plugins/capabilities.py has it."""
HEADINGS = (
    "What you get",
    "Before you start",
    "Connect it",
    "Settings",
    "Events and methods",
    "Known limits",
    "Troubleshooting by message",
    "Disconnect",
)


@check("lifecycle.manifest", "What plugin.toml says can be relied on without running the plugin: version, methods, capabilities.")
async def manifest(stand: Stand) -> None:
    told, kind = stand.subject.manifest, stand.subject.kind
    require(kind.tool_type == told.tool_type, f"tool_type is {told.tool_type} in plugin.toml, {kind.tool_type} in the class")
    require(kind.version == told.version, f"version is {told.version} in plugin.toml, {kind.version} in the class")
    absent = [name for name in told.methods if not callable(getattr(kind, name, None))]
    require(not absent, f"plugin.toml lists methods the class has not: {', '.join(absent)}")
    missing = [name for name in BASIC if name not in told.methods]
    require(not missing, f"plugin.toml does not list: {', '.join(missing)}")
    require(set(told.capabilities) == set(kind.capabilities), "capabilities differ between plugin.toml and the class")
    strange = set(told.capabilities) - CAPABILITIES
    require(not strange, f"no such capability: {', '.join(sorted(strange))}")
    undone = [name for name in told.methods if getattr(kind, name) is getattr(TicketingToolPlugin, name, None) and "attachment" in name]
    require(not undone, f"plugin.toml lists what the class does not do: {', '.join(undone)}")


@check(
    "lifecycle.capabilities", "Each named capability has the methods it promises, listed: whoever asks a plugin for devices gets devices."
)
async def capabilities(stand: Stand) -> None:
    told = stand.subject.manifest
    if not told.capabilities:
        raise NotApplicable("plugin.toml names no capabilities")
    for capability, method in PROMISED.items():
        if capability in told.capabilities:
            require(method in told.methods, f"the capability {capability} promises {method}, which plugin.toml does not list")
            require(
                callable(getattr(stand.subject.kind, method, None)), f"the capability {capability} promises {method}, which is not there"
            )


@check("lifecycle.readme", "Every tool's page has the same headings in the same order, so whoever connects a second tool knows their way.")
async def readme(stand: Stand) -> None:
    page = stand.subject.folder / "README.md"
    require(page.is_file(), "the plugin's folder has no README.md")
    text = page.read_text(encoding="utf-8")
    found = [line.lstrip("#").strip().casefold() for line in text.splitlines() if line.startswith("## ")]
    at = [found.index(heading.casefold()) if heading.casefold() in found else -1 for heading in HEADINGS]
    require(-1 not in at, f"README.md has no heading {HEADINGS[at.index(-1)] if -1 in at else ''!r}")
    require(at == sorted(at), f"README.md's headings are in another order than {', '.join(HEADINGS)}")
    silent = [path for path in stand.subject.manifest.settings if f"`{path}`" not in text]
    require(not silent, f"README.md does not name the settings: {', '.join(silent)}")


@check("lifecycle.loads_quickly", "A plugin is loaded while an event waits: under 20 ms in a running host.")
async def loads_quickly(stand: Stand) -> None:
    took = load_ms(stand.subject, warm=True, tries=7, enough=WARM_MS)
    require(took < WARM_MS, f"it takes {took:g} ms to load in a running host")


@check("lifecycle.loads_cold", "A worker that starts loads its plugins first: under 200 ms from nothing, compiled files on disk.")
async def loads_cold(stand: Stand) -> None:
    took = load_ms(stand.subject, warm=False, tries=7, enough=COLD_MS)
    require(took < COLD_MS, f"it takes {took:g} ms to load from nothing")


@check("lifecycle.light", "The door only verifies and reads: loading a plugin brings in no HTTP client, no directory, no cryptography.")
async def light(stand: Stand) -> None:
    probe = import_probe(stand.subject)
    require(not probe.heavy, f"importing the plugin imports {', '.join(probe.heavy)}")


@check(
    "lifecycle.no_work_at_import",
    "Importing opens no socket, file, thread or client and reads no environment: what is loaded may never be used.",
)
async def no_work_at_import(stand: Stand) -> None:
    probe = import_probe(stand.subject)
    require(not probe.work, f"while it is imported: {'; '.join(probe.work[:5])}")


@check(
    "lifecycle.built_for_nothing", "Building a plugin does no I/O and keeps its settings as they are: one is built for every tenant's tool."
)
async def built_for_nothing(stand: Stand) -> None:
    settings = stand.settings()
    before, tasks = copy.deepcopy(settings), len(asyncio.all_tasks())
    asked: list[str] = []

    def secrets(reference: str) -> list[bytes]:
        asked.append(reference)
        return [reference.encode()]

    plugin = stand.reader(secrets=secrets, **settings)
    require(not stand.proxy.seen, "building the plugin makes a request")
    require(not asked, "building the plugin asks for a secret: the one it keeps is not changed when it is rotated")
    require(len(asyncio.all_tasks()) == tasks, "building the plugin starts a task")
    require(plugin.context.settings == before, "building the plugin changes its settings")


@check("lifecycle.many_at_once", "One plugin object serves many calls at once: each gets its own answer.")
async def many_at_once(stand: Stand) -> None:
    plugin = stand.plugin()
    refs = await asyncio.gather(*(stand.created(plugin, subject=f"at once {n}") for n in range(12)))
    found = await asyncio.gather(*(plugin.get_ticket(ref.ticket_id) for ref in refs * 2))
    for number, ticket in enumerate(found):
        require(ticket.subject == f"at once {number % 12}", f"call {number} is answered with {ticket.subject!r}")


@check("lifecycle.cancelled", "A call that is cancelled ends at once and spoils nothing for the next.")
async def cancelled(stand: Stand) -> None:
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    stand.proxy.arm(ProxyFault(kind="hang"))
    call = asyncio.ensure_future(plugin.get_ticket(ref.ticket_id))
    await asyncio.wait_for(stand.proxy.busy.wait(), 5)
    call.cancel()
    done, _ = await asyncio.wait([call], timeout=2)
    require(done and call.cancelled(), "a cancelled call goes on")
    require((await plugin.get_ticket(ref.ticket_id)).ticket_id == ref.ticket_id, "after a cancelled call the plugin no longer works")


@check("lifecycle.closed_in_flight", "Closing with a call in flight ends the call in an ApiError, soon: no caller waits for ever.")
async def closed_in_flight(stand: Stand) -> None:
    client = stand.client(limits=Limits(read=0.3, total=0.4))
    plugin = stand.plugin(client=client)
    ref = await stand.created(plugin)
    stand.proxy.arm(ProxyFault(kind="hang", times=9))
    call = asyncio.ensure_future(plugin.get_ticket(ref.ticket_id))
    await asyncio.wait_for(stand.proxy.busy.wait(), 5)
    await plugin.aclose()
    await client.aclose()
    done, _ = await asyncio.wait([call], timeout=5)
    if not done:
        call.cancel()
        raise CheckFailed("a call in flight outlives the plugin's close by more than 5 s")
    error = None if call.cancelled() else call.exception()
    require(isinstance(error, ApiError | None) and not call.cancelled(), f"a call in flight ends with {error!r} when the plugin is closed")


@check(
    "lifecycle.leaves_nothing", "When a plugin is closed its connections, tasks and threads are gone: it is closed at every new version."
)
async def leaves_nothing(stand: Stand) -> None:
    tasks, threads = len(asyncio.all_tasks()), threading.active_count()
    client = stand.client()
    plugin = stand.plugin(client=client)
    for _ in range(3):
        await plugin.get_ticket((await stand.created(plugin)).ticket_id)
    require(stand.proxy.connections > 0, "the plugin reaches its tool past the address it was given")
    await plugin.aclose()
    await plugin.aclose()  # twice is once
    await client.aclose()

    async def gone() -> bool:
        return stand.proxy.connections == 0 and len(asyncio.all_tasks()) <= tasks

    try:
        await until(gone, 2)
    except TimeoutError:
        raise CheckFailed(
            f"{stand.proxy.connections} connections and {len(asyncio.all_tasks()) - tasks} tasks are left after the close"
        ) from None
    require(threading.active_count() <= threads, "threads are left after the close")
