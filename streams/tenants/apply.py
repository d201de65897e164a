"""Publishing tenant configurations: what a person wrote becomes the next version, in force one second later.

A version is one record on tenants.v1 under the key tenant/version, written with acks=all. An unchanged configuration publishes
nothing. Two applies at the same moment are told apart afterwards: whoever finds another record under its version says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.codec import Codec
from schemas.events import TenantConfigured
from streams import topics
from streams.clock import Clock, SystemClock
from streams.control import ControlReader, publish_schemas
from streams.producer import Outgoing, StageProducer
from streams.tenants.config import TenantConfig
from streams.tenants.registry import TenantRegistry

EFFECTIVE_AFTER_US = 1_000_000
READ_TIMEOUT = 15.0


class ApplyConflict(RuntimeError):
    """Another apply published the same version at the same moment; its configuration stands. Look at it, then apply again."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did, or would do: `action` is created, changed or unchanged; times in epoch microseconds."""

    tenant: str
    version: int
    action: str
    effective_at: int


def plan(registry: TenantRegistry, config: TenantConfig, now: int) -> TenantConfigured | None:
    """The record that puts this configuration in force; None when the newest version says the same. Pure."""
    records = registry.records(config.tenant)
    canonical = config.canonical()
    if records and not records[-1].removed and records[-1].config == canonical:
        return None
    return msgspec.structs.replace(_next(records, now), tenant=config.tenant, config=canonical)


async def read_tenants(brokers: str, security: Mapping[str, Any] | None = None) -> TenantRegistry:
    """Every version recorded so far. Raises TimeoutError when the broker does not answer."""
    registry = TenantRegistry()
    reader = ControlReader(brokers, [topics.TENANTS.name, topics.SCHEMAS.name], _into(registry), Codec(), security or {})
    await reader.start()
    try:
        await reader.caught_up(READ_TIMEOUT)
    finally:
        await reader.stop()
    return registry


def _into(registry: TenantRegistry) -> Any:
    def apply(topic: str, partition: int, offset: int, key: bytes | None, event: object) -> None:
        if isinstance(event, TenantConfigured):
            registry.apply(event)

    return apply


async def apply(
    brokers: str,
    configs: Sequence[TenantConfig],
    *,
    dry_run: bool = False,
    clock: Clock | None = None,
    security: Mapping[str, Any] | None = None,
) -> list[Applied]:
    """Publishes each configuration that differs from its tenant's newest version. Raises ApplyConflict, TimeoutError, KafkaError."""
    clock = clock or SystemClock()
    registry = await read_tenants(brokers, security)
    done, events = [], []
    for config in configs:
        event = plan(registry, config, clock.now())
        if event is None:
            last = registry.records(config.tenant)[-1]
            done.append(Applied(config.tenant, last.version, "unchanged", last.effective_at))
        else:
            events.append(event)
            done.append(Applied(config.tenant, event.version, "created" if event.version == 1 else "changed", event.effective_at))
    if events and not dry_run:
        await publish(brokers, events, security)
        await _refuse_conflicts(brokers, events, security)
    return done


class NoSuchVersion(ValueError):
    """There is nothing to go back to, or to remove."""


def plan_rollback(registry: TenantRegistry, tenant: str, version: int | None, now: int) -> TenantConfigured | None:
    """The record that puts an earlier version's configuration in force again, as a version of its own; None when it is in force.

    Without a version the one before the newest that differs from it. Pure; raises NoSuchVersion.
    """
    records = registry.records(tenant)
    if not records:
        raise NoSuchVersion(f"no tenant {tenant}")
    last = records[-1]
    if version is None:
        earlier = [record for record in records[:-1] if not record.removed and (last.removed or record.config != last.config)]
        if not earlier:
            raise NoSuchVersion(f"tenant {tenant} has no earlier version that differs from version {last.version}")
        wanted = earlier[-1]
    else:
        found = [record for record in records if record.version == version]
        if not found or found[0].removed:
            raise NoSuchVersion(f"tenant {tenant} has no version {version} to go back to; the newest is {last.version}")
        wanted = found[0]
    if not last.removed and last.config == wanted.config:
        return None
    return msgspec.structs.replace(_next(records, now), tenant=tenant, config=wanted.config)


def plan_removal(registry: TenantRegistry, tenant: str, now: int) -> TenantConfigured | None:
    """The record that takes a tenant out of force; its versions stay. None when it is out already. Pure; raises NoSuchVersion."""
    records = registry.records(tenant)
    if not records:
        raise NoSuchVersion(f"no tenant {tenant}")
    if records[-1].removed:
        return None
    return msgspec.structs.replace(_next(records, now), tenant=tenant, removed=True, config=records[-1].config)


def _next(records: Sequence[TenantConfigured], now: int) -> TenantConfigured:
    """An empty next version, in force a second from now and after every version before it."""
    return TenantConfigured(
        tenant="",
        version=records[-1].version + 1 if records else 1,
        effective_at=max([now + EFFECTIVE_AFTER_US, *(record.effective_at + 1 for record in records)]),
        applied_at=now,
        config="",
    )


async def put_in_force(brokers: str, event: TenantConfigured, security: Mapping[str, Any] | None = None) -> None:
    """Publishes one planned version. Raises ApplyConflict, TimeoutError, KafkaError."""
    await publish(brokers, [event], security)
    await _refuse_conflicts(brokers, [event], security)


async def publish(brokers: str, events: Sequence[TenantConfigured], security: Mapping[str, Any] | None = None) -> None:
    """Writes the records, each acknowledged by all replicas before the next."""
    codec = Codec()
    producer = StageProducer(brokers, security, client_id="ai-agents-tenant-apply")
    await producer.start()
    try:
        await publish_schemas(producer, codec)
        for event in events:
            key = f"{event.tenant}/{event.version}".encode()
            await producer.send([Outgoing(topics.TENANTS.name, 0, key, codec.encode(event))])
    finally:
        await producer.stop()


async def _refuse_conflicts(brokers: str, events: Sequence[TenantConfigured], security: Mapping[str, Any] | None) -> None:
    registry = await read_tenants(brokers, security)
    lost = [e for e in events if e not in registry.records(e.tenant)]
    if lost:
        names = ", ".join(f"{e.tenant} version {e.version}" for e in lost)
        raise ApplyConflict(f"{names}: another apply published it at the same moment; compare with `tenant show`, then apply again")
