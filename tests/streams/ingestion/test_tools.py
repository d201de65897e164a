"""What the door knows of its tenants: live from the topic, or as last known from disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from schemas.codec import Codec
from schemas.events import TenantConfigured
from streams.ingestion.tools import ConfiguredTools, LastKnown
from streams.settings import Settings
from streams.tenants.apply import apply
from streams.tenants.config import parse

CONFIG = """
tenant: livetest
tools:
  desk: {type: jira, webhook: {secret: "${secret:hook}"}}
routes: []
default: {to: desk, do: [note]}
"""
EVENTS = [
    TenantConfigured(tenant="acme", version=n, effective_at=n * 1000, applied_at=n, config='{"tenant":"acme","tools":{}}') for n in (1, 2)
]


def test_what_was_known_is_known_after_a_restart(tmp_path: Path) -> None:
    """A door that starts while the broker is away verifies with what it knew."""
    LastKnown(tmp_path / "deep" / "tenants.cache", Codec()).save(EVENTS)
    assert LastKnown(tmp_path / "deep" / "tenants.cache", Codec()).load() == EVENTS
    assert (tmp_path / "deep" / "tenants.cache").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff\xff\xff\xff", b"\x05\x00\x00\x00hello", b"garbage of some length"])
def test_a_broken_file_counts_as_none(tmp_path: Path, data: bytes) -> None:
    """The door then waits for the broker; it never stops over its cache."""
    (tmp_path / "tenants.cache").write_bytes(data)
    assert LastKnown(tmp_path / "tenants.cache", Codec()).load() == []


@pytest.mark.broker
async def test_a_tenant_applied_while_the_door_runs_is_served(broker: str, tmp_path: Path) -> None:
    """Live, without a restart; and a door started without a broker afterwards still knows it."""
    settings = Settings(data_dir=tmp_path, brokers=broker)
    tools = ConfiguredTools(settings, tmp_path / "door")
    await tools.start()
    try:
        async with asyncio.timeout(30):
            while tools.source != "live":
                await asyncio.sleep(0.02)
        (applied,) = await apply(broker, [parse(CONFIG, "livetest.yaml")])
        async with asyncio.timeout(30):
            while tools.plugin("livetest", "desk", applied.effective_at) is None:
                await asyncio.sleep(0.02)
            while not any(e.tenant == "livetest" for e in LastKnown(tmp_path / "door" / "tenants.cache", Codec()).load()):
                await asyncio.sleep(0.05)
    finally:
        await tools.stop()
    alone = ConfiguredTools(Settings(data_dir=tmp_path, brokers="127.0.0.1:1"), tmp_path / "door")
    await alone.start()
    try:
        assert alone.source == "last known"
        assert alone.plugin("livetest", "desk", applied.effective_at) is not None
    finally:
        await alone.stop()
