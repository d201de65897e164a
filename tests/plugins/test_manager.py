"""The only door to the tools: one object for each version, built once, never closed under a call."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from plugins.api import PluginConfigError, TicketingToolPlugin
from plugins.manager import KEPT_GENERATIONS, PluginManager, ToolBinding, UnknownTool
from plugins.manifest import PluginManifest
from plugins.registry import PluginRegistry


class Desk(TicketingToolPlugin):
    """A plugin that does nothing but say whether it was closed."""

    tool_type, version = "desk", "1.0.0"
    built = 0

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        type(self).built += 1
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True


Desk.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]  # a test's plugin needs no calls


class Registry(PluginRegistry):
    """Knows the desk, and counts how often it is asked for."""

    def __init__(self) -> None:
        manifest = PluginManifest(name="Desk", tool_type="desk", version="1.0.0", entry="x:Desk", summary="")
        super().__init__({"desk": manifest})
        self.asked = 0
        self.threads: set[str] = set()

    def get(self, tool_type: str) -> type[TicketingToolPlugin]:
        self.asked += 1
        self.threads.add(threading.current_thread().name)
        self.manifest(tool_type)
        return Desk


def a_manager(registry: PluginRegistry | None = None, **settings: Any) -> PluginManager:
    def resolve(tenant: str, tool: str, at: int) -> ToolBinding | None:
        if tool not in ("desk", "ghost"):
            return None
        return ToolBinding(tenant=tenant, tool=tool, tool_type=tool, settings=settings, version=at)

    return PluginManager(registry or Registry(), resolve, lambda tenant: lambda reference: [reference.encode()])


async def test_five_hundred_first_calls_build_one_plugin() -> None:
    """A burst after a start must not open five hundred pools; the import runs off the loop, once."""
    Desk.built = 0
    registry = Registry()
    manager = a_manager(registry)

    async def call() -> TicketingToolPlugin:
        async with manager.lease("acme", "desk", 1) as plugin:
            await asyncio.sleep(0)
            return plugin

    assert len({id(plugin) for plugin in await asyncio.gather(*(call() for _ in range(500)))}) == 1
    assert Desk.built == 1
    assert threading.main_thread().name not in registry.threads or registry.asked <= 2
    assert manager.peek("acme", "desk", 1) is not None
    await manager.aclose()


async def test_a_plugin_is_closed_only_after_its_last_call() -> None:
    """Closing the pool under a call turns a good answer into a doubtful one."""
    manager = a_manager()
    lease = manager.lease("acme", "desk", 1)
    plugin = await lease.__aenter__()
    assert isinstance(plugin, Desk)
    closing = asyncio.create_task(manager.aclose())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not plugin.closed
    assert [g.state for g in manager.generations()] == ["draining"]
    await lease.__aexit__(None, None, None)
    await closing
    assert plugin.closed
    assert manager.generations() == []


async def test_a_call_that_does_not_end_makes_a_zombie_not_a_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported, and it still ends on the plugin it began on."""
    monkeypatch.setattr("plugins.manager.DRAIN_SECONDS", 0.01)
    manager = a_manager()
    lease = manager.lease("acme", "desk", 1)
    plugin = await lease.__aenter__()
    closing = asyncio.create_task(manager.aclose())
    await asyncio.wait_for(_until(lambda: [g.state for g in manager.generations()] == ["zombie"]), 5)
    assert isinstance(plugin, Desk)
    assert not plugin.closed
    await lease.__aexit__(None, None, None)
    await closing
    assert plugin.closed


async def _until(true: Any) -> None:
    while not true():
        await asyncio.sleep(0.001)


async def test_versions_live_side_by_side_and_the_unused_go() -> None:
    """A new configuration and a replay of the old one run at once; a year of versions must not stay in memory."""
    manager = a_manager()
    plugins = []
    for version in range(KEPT_GENERATIONS + 2):
        async with manager.lease("acme", "desk", version) as plugin:
            plugins.append(plugin)
    assert len(manager._generations) == KEPT_GENERATIONS
    await asyncio.wait_for(_until(lambda: plugins[0].closed and plugins[1].closed), 5)
    assert not plugins[-1].closed
    async with manager.lease("acme", "desk", 0) as again:
        assert again is not plugins[0]
        assert again.context.settings == {}
    await manager.aclose()


async def test_an_unknown_tool_is_said_and_a_missing_plugin_too() -> None:
    """Each is another mistake in a tenant's configuration."""
    manager = a_manager()
    assert manager.peek("acme", "nothing", 1) is None
    with pytest.raises(UnknownTool, match="acme has no tool nothing"):
        async with manager.lease("acme", "nothing", 1):
            pass
    with pytest.raises(PluginConfigError, match="no plugin for 'ghost'"):
        manager.peek("acme", "ghost", 1)
    with pytest.raises(PluginConfigError, match="no plugin for 'ghost'"):
        async with manager.lease("acme", "ghost", 1):
            pass
    await manager.aclose()
    with pytest.raises(PluginConfigError, match="closed"):
        manager.peek("acme", "desk", 9)


async def test_a_timeout_that_is_no_number_is_a_settings_error() -> None:
    """It is the tenant's to mend, not a crash."""
    with pytest.raises(PluginConfigError, match="timeout"):
        a_manager(timeout="long").peek("acme", "desk", 1)


async def test_a_plugin_that_trips_over_its_settings_is_a_settings_error() -> None:
    """A KeyError out of one tenant's tool must not look like a fault of the stream."""

    class Clumsy(Desk):
        def __init__(self, context: Any) -> None:
            raise KeyError("project")

    registry = Registry()
    registry.get = lambda tool_type: Clumsy  # type: ignore[method-assign]  # this test's plugin
    with pytest.raises(PluginConfigError, match="KeyError"):
        a_manager(registry).peek("acme", "desk", 1)


async def test_a_warm_peek_is_quick() -> None:
    """Route and the door peek for every record: a lookup, no more. The bound is wide, for a busy machine."""
    manager = a_manager()
    manager.peek("acme", "desk", 1)
    best = min(_timed(manager) for _ in range(5))
    assert best < 10e-6
    await manager.aclose()


def _timed(manager: PluginManager) -> float:
    began = time.perf_counter()
    for _ in range(1000):
        manager.peek("acme", "desk", 1)
    return (time.perf_counter() - began) / 1000


def test_manifests_are_read_without_importing_a_plugin() -> None:
    """`plugin list` must not run anybody's code, and a worker loads what its tenants use."""
    before = set(sys.modules)
    registry = PluginRegistry.discover()
    assert "zendesk" in [m.tool_type for m in registry.manifests()]
    assert not [name for name in set(sys.modules) - before if name.endswith(".plugin")]
    assert registry.get("zendesk").tool_type == "zendesk"
    assert registry.sandbox("zendesk").__name__ == "ZendeskSandbox"
    with pytest.raises(PluginConfigError):
        registry.get("nothing")


def test_reading_deliveries_needs_no_http_library() -> None:
    """The door and route never call a tool; aiohttp and httpx would cost each of them 20 MB and half a second at start."""
    program = (
        "import sys\nfrom plugins.manager import PluginManager, ToolBinding\nfrom plugins.registry import PluginRegistry\n"
        "bind = lambda t, n, at: ToolBinding(tenant=t, tool=n, tool_type='zendesk', version=1)\n"
        "assert PluginManager(PluginRegistry.discover(), bind, lambda t: lambda r: ()).peek('a', 'b', 1)\n"
        "sys.exit(bool({'aiohttp', 'httpx'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).resolve().parents[2], check=False).returncode == 0


def a_distribution(folder: Path, name: str, tool_type: str, *, manifest: bool = True) -> None:
    """A plugin as pip would have installed it; importing it would fail the test."""
    package = folder / f"itsm_{name}"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    if manifest:
        text = f"[plugin]\nname='{name}'\ntool_type='{tool_type}'\nversion='2.1'\nentry='itsm_{name}:P'\nsummary='x'\n"
        (package / "plugin.toml").write_text(text)
    info = folder / f"itsm_{name}-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: itsm-{name}\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text(f"[ai_agents.plugins]\n{tool_type} = itsm_{name}:P\n")


def test_a_plugin_that_is_not_there_is_told_with_what_to_do() -> None:
    """Its author has either not installed it or mistyped a word in plugin.toml, and cannot tell which from its absence."""
    with pytest.raises(PluginConfigError, match=r"'desk'; there are: .*pip install -e FOLDER"):
        PluginRegistry({}).manifest("desk")
    with pytest.raises(PluginConfigError, match=r"not usable: desk/plugin\.toml: unknown field"):
        PluginRegistry({}, ["desk/plugin.toml: unknown field"]).manifest("desk")


def test_another_distributions_plugin_is_found_unimported_and_cannot_replace_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may add a tool; nobody may quietly take over an existing one, and a broken one stops no other."""
    a_distribution(tmp_path, "acme", "acme_desk")
    a_distribution(tmp_path, "fake", "zendesk")
    a_distribution(tmp_path, "bare", "bare_desk", manifest=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = PluginRegistry.discover()
    assert registry.manifest("acme_desk").version == "2.1"
    assert registry.manifest("zendesk").entry == "plugins.zendesk.plugin:ZendeskPlugin"
    assert len(registry.faults) == 2
    assert any("itsm_fake" in fault for fault in registry.faults)
    assert any("no plugin.toml in the package itsm_bare" in fault for fault in registry.faults)
    with pytest.raises(PluginConfigError, match="cannot be imported: RuntimeError"):
        registry.get("acme_desk")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[plugin", "Expected"),
        ("[plugin]\nname='x'", "missing"),
        ("[plugin]\nname='x'\ntool_type='x'\nversion='1'\nentry='x:Y'\nsummary=''\napi='9'", "API 9"),
        ("[plugin]\nname='x'\ntool_type='x'\nversion='1'\nentry='x:Y'\nsummary=''\nnonsense=1", "nonsense"),
    ],
)
def test_a_broken_manifest_names_its_file_and_fault(text: str, fault: str, tmp_path: Any) -> None:
    """Its author reads this line and nothing else."""
    from plugins.manifest import read_manifest

    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "plugin.toml").write_text(text)
    with pytest.raises(PluginConfigError, match=rf"acme/plugin.toml: .*{fault}"):
        read_manifest(folder / "plugin.toml")
