"""The stand a plugin is tested on: its sandbox in a process of its own, a proxy before it, and a receiver for its webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from plugins.api import (
    Delivery,
    NewTicket,
    PluginConfigError,
    PluginContext,
    Priority,
    TicketingToolPlugin,
    TicketRef,
    TicketStatus,
    TicketType,
)
from plugins.conformance.builders import a_ticket
from plugins.conformance.check import CheckFailed, NotApplicable
from plugins.conformance.proxy import FaultProxy
from plugins.conformance.receiver import Receiver
from plugins.conformance.subject import Subject
from plugins.http.client import ApiClient
from plugins.http.limits import Limits
from plugins.http.retry import RetrySchedule
from plugins.manifest import Conformance
from plugins.sandbox.server import SandboxProcess

IMPATIENT = Limits(connect=1.0, read=0.3, total=0.8)
"""A client that gives up while a check can wait for it."""
SOON = RetrySchedule(first_delay=0.01, longest=0.1)
"""Repeats as a host's client does, without its pauses."""

Secrets = Callable[[str], Sequence[bytes]]


def sandbox_of(subject: Subject, **options: Any) -> SandboxProcess:
    """The plugin's sandbox, not yet started; raises PluginConfigError when it brings none."""
    if subject.manifest.sandbox is None:
        raise PluginConfigError(f"{subject.manifest.tool_type}: plugin.toml names no sandbox, so its promises cannot be tried")
    return SandboxProcess(subject.manifest.sandbox, import_from=subject.root, **options)


def settings_of(subject: Subject, sandbox: SandboxProcess) -> dict[str, Any]:
    """What the sandbox and the manifest tell of a tenant's settings, the address aside."""
    known = {name: value for name, value in sandbox.credentials.items() if name != "person"}
    return {**known, "webhook": sandbox.webhook, **subject.manifest.conformance.settings}


def value_at(settings: Any, path: str) -> Any:
    """What stands at a dotted path; None where nothing does."""
    for name in path.split("."):
        settings = settings.get(name) if isinstance(settings, Mapping) else None
    return settings


def require_settings(subject: Subject, sandbox: SandboxProcess) -> None:
    """Raises PluginConfigError where a required setting is told by nobody: every check would fail of it, each with other words."""
    settings = {"base_url": sandbox.base_url, **settings_of(subject, sandbox)}
    lacking = [path for path, setting in subject.manifest.settings.items() if setting.required and value_at(settings, path) is None]
    if lacking:
        raise PluginConfigError(
            f"plugin.toml requires {', '.join(lacking)}, and neither the sandbox's credentials nor its webhook tell a value; "
            f"give one for the checks, under [plugin.conformance.settings]"
        )


@dataclass(frozen=True, slots=True)
class Written:
    """The tool's own request by which a ticket comes to be: what a fault must hit to hit the write."""

    method: str
    path: str | None


class Stand:
    """For one check: fresh plugins over fresh connections, while the sandbox is shared. An async context manager."""

    def __init__(self, subject: Subject, sandbox: SandboxProcess) -> None:
        self.subject = subject
        self.sandbox = sandbox
        self.proxy = FaultProxy(sandbox.base_url)
        self.receiver = Receiver()
        self._clients: list[ApiClient] = []
        self._listening = False

    async def __aenter__(self) -> Stand:
        await self.proxy.start()
        await self.receiver.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        for client in self._clients:
            await client.aclose()
        if self._listening:
            self.sandbox.set_webhook("")
        self.sandbox.clear_faults()
        self.sandbox.fault(index_lag=0.0)
        await self.receiver.stop()
        await self.proxy.stop()

    # the plugin --------------------------------------------------------------------------------------------------------
    @property
    def told(self) -> Conformance:
        """What the manifest tells the kit."""
        return self.subject.manifest.conformance

    def settings(self, **more: Any) -> dict[str, Any]:
        """A tenant's settings for this sandbox, reached through the proxy; `more` is laid over them."""
        return {"base_url": self.proxy.url, **settings_of(self.subject, self.sandbox), **more}

    def client(self, base_url: str | None = None, limits: Limits | None = None, retries: RetrySchedule = SOON) -> ApiClient:
        """A client of its own, as the host would give one; closed when the check ends."""
        client = ApiClient(self.proxy.url if base_url is None else base_url, limits=limits, retries=retries)
        self._clients.append(client)
        return client

    def plugin(
        self, *, limits: Limits | None = None, secrets: Secrets | None = None, client: ApiClient | None = None, **settings: Any
    ) -> TicketingToolPlugin:
        """The plugin, bound to the sandbox through the proxy."""
        client = client or self.client(settings.get("base_url"), limits)
        return self.subject.kind(
            PluginContext(
                tenant="acme", tool="target", settings=self.settings(**settings), secrets=secrets or as_written, http=lambda: client
            )
        )

    def reader(self, *, secrets: Secrets | None = None, **settings: Any) -> TicketingToolPlugin:
        """The plugin as the door has it: it can verify and read, and any call is a fault."""

        def no_network() -> ApiClient:
            raise CheckFailed("a pure method asked for the HTTP client")

        context = PluginContext(
            tenant="acme", tool="target", settings=self.settings(**settings), secrets=secrets or as_written, http=no_network
        )
        return self.subject.kind(context)

    # what the plugin says of itself ------------------------------------------------------------------------------------
    def needs_method(self, *names: str) -> None:
        """The check does not apply where the manifest lists none of these."""
        for name in names:
            if name not in self.subject.manifest.methods:
                raise NotApplicable(f"plugin.toml lists no method {name}")

    @property
    def first_type(self) -> TicketType:
        """A type this tool can set; UNKNOWN where its tickets have none."""
        types = self.told.types or (TicketType.UNKNOWN,)
        return TicketType.INCIDENT if TicketType.INCIDENT in types else types[0]

    def priority(self, wanted: Priority) -> Priority:
        """This priority, or the nearest the tool has a word for."""
        order = list(Priority)
        return min(self.told.priorities, key=lambda has: abs(order.index(has) - order.index(wanted)), default=Priority.UNKNOWN)

    @property
    def done(self) -> TicketStatus:
        """The status of work that is done: closed, where the tool has no word for resolved."""
        return TicketStatus.RESOLVED if TicketStatus.RESOLVED in self.told.statuses else TicketStatus.CLOSED

    def a_ticket(self, **fields: Any) -> NewTicket:
        return a_ticket(**{"type": self.first_type, "priority": self.priority(Priority.HIGH), **fields})

    # the sandbox -------------------------------------------------------------------------------------------------------
    async def created(self, plugin: TicketingToolPlugin, **fields: Any) -> TicketRef:
        """A ticket of the usual kind, in the tool."""
        return await plugin.create_ticket(self.a_ticket(**fields))

    async def creating(self, plugin: TicketingToolPlugin) -> Written:
        """The request by which this tool's tickets come to be, learnt from two of them; afterwards the connection is warm."""
        seen = []
        for _ in range(2):
            at = len(self.sandbox.ledger())
            await self.created(plugin)
            seen.append(next(row for row in self.sandbox.ledger(at) if row["kind"] == "create"))
        first, second = seen
        return Written(second["method"], second["path"] if first["path"] == second["path"] else None)

    def effects(self, external_id: str) -> list[str]:
        """The kinds of effects the sandbox's ledger has for our id of a ticket."""
        return [row["kind"] for row in self.sandbox.ledger() if row["external_id"] == external_id]

    async def listen(self) -> Receiver:
        """The receiver, which from now on gets the sandbox's webhooks."""
        self._listening = True
        self.sandbox.set_webhook(self.receiver.url)
        return self.receiver

    async def delivery(self, body: str | None = None) -> Delivery:
        """A genuine delivery, signed by the sandbox: of a ticket a person opens, or of this body."""
        receiver = await self.listen()
        if body is None:
            self.sandbox.person_creates(subject="Crane 4 stands still", description="No *power*", priority="urgent", type="incident")
        else:
            self.sandbox.deliver(body)
        return await receiver.next()

    def webhook_secrets(self) -> set[str]:
        """The values of the webhook's settings that the manifest calls secret."""
        return self._secrets("webhook.")

    def secrets_in_use(self) -> set[str]:
        """Every credential of this connection: the webhook's, and the API's."""
        return self._secrets("")

    def _secrets(self, beneath: str) -> set[str]:
        settings, found = self.settings(), set()
        for path, setting in self.subject.manifest.settings.items():
            if setting.secret and path.startswith(beneath):
                value = value_at(settings, path)
                found |= {value} if isinstance(value, str) and value else set()
        return found


def as_written(reference: str) -> Sequence[bytes]:
    """Secrets of a stand: each reference is its own value."""
    return [reference.encode()]


async def until(found: Callable[[], Any], seconds: float = 5.0) -> None:
    """Waits until the coroutine function answers something; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not await found():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.02)
