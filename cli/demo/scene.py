"""The demo's stage set: a sandbox of each of the nine tools and one more, three tenants that use them, their rules and their secrets."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cli.sandboxed import start_all, tool_of
from plugins.manifest import PluginManifest
from plugins.registry import PluginRegistry
from plugins.sandbox.process import SandboxProcess
from streams.secrets.store import SecretStore, open_store
from streams.settings import Settings
from streams.tenants.config import TenantConfig, parse

SEARCH_LAG_S = 1.5
INDEX_LAG_S = 0.5


@dataclass(frozen=True, slots=True)
class Connection:
    """One tenant's tool and the sandbox behind it."""

    tenant: str
    tool: str
    sandbox: SandboxProcess

    @property
    def path(self) -> str:
        return f"/webhooks/{self.tenant}/{self.tool}"

    @property
    def missed(self) -> int:
        """Webhooks that the tool gave up, because the door did not take them."""
        return int(self.sandbox.health()["webhooks"]["failed"])


ROUTES: dict[str, dict[str, Any]] = {
    "acme": {
        "routes": [
            {"name": "spam is dropped", "match": {"subject": "SPAM: *"}, "do": ["drop"]},
            {
                "name": "urgent incidents go to Jira",
                "match": {"type": "incident", "priority": ["P1", "P2"]},
                "to": "jira",
                "do": ["mirror", "note"],
            },
            {"name": "changes go to ServiceNow", "match": {"type": "change"}, "to": "snow", "do": ["mirror"]},
        ],
        "default": {"to": "desk", "do": ["mirror", "note"]},
    },
    "globex": {
        "routes": [
            {"name": "comments stay where they are", "match": {"tool": "support", "change": "commented"}, "to": "support", "do": ["note"]},
            {
                "name": "urgent tickets go to the operations desk",
                "match": {"priority": ["P1", "P2"]},
                "to": "ops",
                "failover": ["support"],
                "do": ["mirror", "note"],
            },
        ],
        "default": {"to": "support", "do": ["mirror", "note"]},
    },
    "initech": {
        "routes": [
            {"name": "the plant's tickets go to TOPdesk", "match": {"tool": "plant"}, "to": "facility", "do": ["mirror", "note"]},
            {"name": "old desk's tickets move on", "match": {"tool": "legacy"}, "to": "it", "do": ["mirror"], "continue": True},
            {"name": "and the plant knows", "when": 'ticket.priority in ["urgent", "high"]', "to": "plant", "do": ["mirror"]},
        ],
        "default": {"to": "it", "do": ["mirror", "enrich"]},
    },
}
"""The first of a tenant's tools are its sources; `ops` only takes what others send."""
TOOLS = (
    ("acme", "desk", "servicedesk_plus"),
    ("acme", "jira", "jira"),
    ("acme", "snow", "servicenow"),
    ("globex", "support", "zendesk"),
    ("globex", "fresh", "freshdesk"),
    ("globex", "ops", "servicedesk_plus"),
    ("initech", "it", "freshservice"),
    ("initech", "facility", "topdesk"),
    ("initech", "plant", "sysaid"),
    ("initech", "legacy", "cherwell"),
)
TARGETS_ONLY = frozenset({"ops"})


class Scene:
    """Starts the sandboxes, writes the tenants' files and secrets. A context manager; blocking."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self.connections: list[Connection] = []

    def __enter__(self) -> Scene:
        try:
            started = start_all(self._stack, [tool_type for _, _, tool_type in TOOLS], lambda tool_type: {"index_lag": INDEX_LAG_S})
        except BaseException:
            self._stack.close()
            raise
        self.connections = [Connection(tenant, tool, sandbox) for (tenant, tool, _), sandbox in zip(TOOLS, started, strict=True)]
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def sources(self) -> list[Connection]:
        """The tools people work in: one of each tool type."""
        return [c for c in self.connections if c.tool not in TARGETS_ONLY]

    def of(self, tenant: str, tool: str) -> Connection:
        """The connection by its names."""
        return next(c for c in self.connections if (c.tenant, c.tool) == (tenant, tool))

    def tenants(self) -> list[TenantConfig]:
        """The configurations, also written to tenants/*.yaml in the data directory; their secrets are put into the store."""
        store = open_store(self._settings)
        folder = self._settings.data_dir / "tenants"
        folder.mkdir(parents=True, exist_ok=True)
        registry, configs = PluginRegistry.discover(), []
        for tenant, rules in ROUTES.items():
            mine = [c for c in self.connections if c.tenant == tenant]
            tools = {c.tool: _tool(c, store, registry.manifest(c.sandbox.tool_type)) for c in mine}
            text = yaml.safe_dump({"tenant": tenant, "tools": tools, **rules}, sort_keys=False, allow_unicode=True)
            path = folder / f"{tenant}.yaml"
            path.write_text(text)
            configs.append(parse(text, path.name, {manifest.tool_type: manifest for manifest in registry.manifests()}))
        return configs

    def point_webhooks_at(self, ingestion_url: str) -> None:
        """From now on each sandbox tells the door of what happens in it."""
        for c in self.connections:
            c.sandbox.set_webhook(ingestion_url + c.path)

    def settled(self, timeout: float) -> bool:
        """Waits until no sandbox has a webhook on its way; False when time ran out."""
        end = time.monotonic() + timeout
        while any(c.sandbox.health()["webhooks"]["pending"] for c in self.connections):
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True


def _tool(c: Connection, store: SecretStore, manifest: PluginManifest) -> dict[str, Any]:
    def keep(key: str, value: str) -> str:
        name = f"{c.tool}_{key}"
        store.put(f"{c.tenant}/{name}", value.encode(), keep_old=False)
        return "${secret:" + name + "}"

    return {**tool_of(c.sandbox, manifest, keep), "search_lag": SEARCH_LAG_S}


def data_folder(chosen: Path | None) -> Path:
    """Where the demo keeps its data: the chosen folder, or a new temporary one that stays for looking at."""
    import tempfile

    return chosen if chosen is not None else Path(tempfile.mkdtemp(prefix="ai-agents-demo-"))
