"""PluginManager: the only door to the tools. It builds a plugin when first needed, keeps it while it is used, and closes it after
the last call on it has ended.

A generation is one plugin object for one version of one tenant's tool. A new version gets a new generation beside the old; the old
one serves the calls it has, and whoever replays events of its time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from plugins.api import PluginConfigError, PluginContext, TicketingToolPlugin
from plugins.http.limits import Limits
from plugins.registry import PluginRegistry
from plugins.webhook import allowed_addresses

if TYPE_CHECKING:
    from plugins.http.client import ApiClient

log = logging.getLogger(__name__)

KEPT_GENERATIONS = 3
"""Versions of one tool kept ready; the one unused for longest goes first."""
DRAIN_SECONDS = 30.0
"""A generation whose calls have not ended by then is called a zombie; it is still closed only after them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolBinding:
    """A tenant's tool in one version of the tenant's configuration; `settings` with secret references left in place."""

    tenant: str
    tool: str
    tool_type: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0


Resolve = Callable[[str, str, int], ToolBinding | None]
Secrets = Callable[[str], Callable[[str], Sequence[bytes]]]


class UnknownTool(PluginConfigError):
    """The tenant has no such tool, or had none at that time."""


class Generation:
    """One plugin object and how many leases hold it."""

    __slots__ = ("_client", "_limits", "binding", "idle", "inflight", "plugin", "state", "used")

    def __init__(self, kind: type[TicketingToolPlugin], binding: ToolBinding, secrets: Callable[[str], Sequence[bytes]]) -> None:
        self.binding = binding
        self.inflight = 0
        self.state = "active"
        self.used = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._client: ApiClient | None = None
        self._limits = _limits(binding.settings)
        context = PluginContext(tenant=binding.tenant, tool=binding.tool, settings=binding.settings, secrets=secrets, http=self._http)
        try:
            self.plugin = kind(context)
            self.plugin.allowed_from = allowed_addresses(binding.settings.get("webhook"))
        except PluginConfigError:
            raise
        except Exception as exc:  # a slip over odd settings is the same to the caller: this tool cannot work
            raise PluginConfigError(f"the {binding.tool_type} plugin cannot take these settings ({type(exc).__name__})") from exc

    def _http(self) -> ApiClient:
        if self._client is None:
            from plugins.http.client import ApiClient  # the door and route make no calls: they are spared 20 MB and half a second

            self._client = ApiClient(str(self.binding.settings.get("base_url") or ""), limits=self._limits)
        return self._client

    async def retire(self) -> None:
        """Waits for the last lease to end, then closes; a connection is never closed under a call."""
        self.state = "draining"
        try:
            await asyncio.wait_for(self.idle.wait(), DRAIN_SECONDS)
        except TimeoutError:
            self.state = "zombie"
            log.warning("%s/%s version %d: %d calls have not ended", *self.name, self.binding.version, self.inflight)
            await self.idle.wait()
        try:
            await self.plugin.aclose()
        finally:
            if self._client is not None:
                await self._client.aclose()
            self.state = "closed"

    @property
    def name(self) -> tuple[str, str]:
        return self.binding.tenant, self.binding.tool


def _limits(settings: Mapping[str, Any]) -> Limits:
    """A tool's own `timeout` and `max_connections`, where the tenant set them."""
    usual = Limits()
    try:
        timeout = float(settings.get("timeout", usual.total))
        connections = int(settings.get("max_connections", usual.max_connections))
    except (TypeError, ValueError):
        raise PluginConfigError("timeout and max_connections of a tool must be numbers") from None
    return Limits(total=timeout, read=timeout, connect=min(timeout, usual.connect), max_connections=connections)


class Lease:
    """Holds one generation from its making to its end, so that none is closed under a call; use it with `async with`, once."""

    __slots__ = ("_at", "_generation", "_manager", "_tenant", "_tool")

    def __init__(self, manager: PluginManager, tenant: str, tool: str, at: int) -> None:
        self._manager, self._tenant, self._tool, self._at = manager, tenant, tool, at
        self._generation: Generation | None = None

    async def __aenter__(self) -> TicketingToolPlugin:
        generation = await self._manager.generation(self._tenant, self._tool, self._at)
        generation.inflight += 1  # no await since it was looked up: it cannot have been retired in between
        generation.idle.clear()
        self._generation = generation
        return generation.plugin

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        generation = self._generation
        assert generation is not None
        generation.inflight -= 1
        if generation.inflight == 0:
            generation.idle.set()


class PluginManager:
    """Plugins by tenant, tool and the time of the event. One event loop; `at` is epoch microseconds."""

    def __init__(self, registry: PluginRegistry, resolve: Resolve, secrets: Secrets) -> None:
        self._registry = registry
        self._resolve = resolve
        self._secrets = secrets
        self._generations: dict[tuple[str, str, int], Generation] = {}
        self._loading: dict[str, asyncio.Task[object]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._retired: list[Generation] = []
        self._uses = 0
        self._closed = False

    def peek(self, tenant: str, tool: str, at: int) -> TicketingToolPlugin | None:
        """The plugin for its pure methods; None for an unknown tool. Raises PluginConfigError when it cannot be built."""
        binding = self._resolve(tenant, tool, at)
        if binding is None:
            return None
        generation = self._generations.get((tenant, tool, binding.version))
        return (generation if generation is not None else self._build(binding)).plugin

    def lease(self, tenant: str, tool: str, at: int) -> Lease:
        """`async with manager.lease(...) as plugin`: for calls. Raises UnknownTool, or PluginConfigError, on entry."""
        return Lease(self, tenant, tool, at)

    async def generation(self, tenant: str, tool: str, at: int) -> Generation:
        """The generation for an event of this time, built if needed; its code is imported off the loop, once for all who wait."""
        binding = self._resolve(tenant, tool, at)
        if binding is None:
            raise UnknownTool(f"tenant {tenant} has no tool {tool}; see: ai-agents tenant show {tenant}")
        if (tenant, tool, binding.version) not in self._generations:
            await self._load(binding.tool_type)
        generation = self._generations.get((tenant, tool, binding.version)) or self._build(binding)
        self._uses += 1
        generation.used = self._uses
        return generation

    async def _load(self, tool_type: str) -> None:
        task = self._loading.get(tool_type)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.ensure_future(asyncio.to_thread(self._registry.get, tool_type))
            self._loading[tool_type] = task
        await asyncio.shield(task)

    def _build(self, binding: ToolBinding) -> Generation:
        if self._closed:
            raise PluginConfigError("the plugins are closed: this process is ending")
        generation = Generation(self._registry.get(binding.tool_type), binding, self._secrets(binding.tenant))
        self._uses += 1
        generation.used = self._uses
        self._generations[binding.tenant, binding.tool, binding.version] = generation
        self._retire_the_oldest(binding)
        return generation

    def _retire_the_oldest(self, binding: ToolBinding) -> None:
        same = [g for g in self._generations.values() if g.name == (binding.tenant, binding.tool)]
        for generation in sorted(same, key=lambda g: g.used)[: max(0, len(same) - KEPT_GENERATIONS)]:
            self._retire(generation)

    def _retire(self, generation: Generation) -> None:
        self._generations.pop((*generation.name, generation.binding.version), None)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # built and dropped without a loop (a command that only parses): it has opened nothing
        self._retired = [g for g in self._retired if g.state != "closed"] + [generation]
        task = loop.create_task(generation.retire())
        self._retiring.add(task)
        task.add_done_callback(self._retirement_ended)

    def _retirement_ended(self, task: asyncio.Task[None]) -> None:
        self._retiring.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("a plugin failed to close: %s: %s", type(exc).__name__, exc)

    def generations(self) -> list[Generation]:
        """The live ones, then those still draining."""
        return [*self._generations.values(), *(g for g in self._retired if g.state != "closed")]

    async def aclose(self) -> None:
        """Closes every generation after its calls; waits for them. New plugins are refused from here on."""
        self._closed = True
        for generation in list(self._generations.values()):
            self._retire(generation)
        if self._retiring:
            await asyncio.wait(self._retiring)
