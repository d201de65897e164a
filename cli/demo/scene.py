"""The demo's stage set: four sandboxes of three tools, two tenants that use them, their rules and their secrets."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from plugins.sandbox.process import SandboxProcess
from streams.secrets.store import SecretStore, open_store
from streams.settings import Settings
from streams.tenants.checks import NOT_SECRET, WEBHOOK_SECRETS
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
            {"name": "changes go to Jira", "match": {"type": "change"}, "to": "jira", "do": ["mirror"]},
        ],
        "default": {"to": "desk", "do": ["mirror", "note"]},
    },
    "globex": {
        "routes": [
            {"name": "comments stay where they are", "match": {"change": "commented"}, "to": "support", "do": ["note"]},
            {
                "name": "urgent tickets go to the operations desk",
                "match": {"priority": ["P1", "P2"]},
                "to": "ops",
                "failover": ["support"],
                "do": ["mirror", "note"],
            },
        ],
        "default": {"to": "support", "do": ["note"]},
    },
}
TOOLS = (
    ("acme", "desk", "servicedesk_plus"),
    ("acme", "jira", "jira"),
    ("globex", "support", "zendesk"),
    ("globex", "ops", "servicedesk_plus"),
)


class Scene:
    """Starts the sandboxes, writes the tenants' files and secrets. A context manager; blocking."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self.connections: list[Connection] = []

    def __enter__(self) -> Scene:
        for tenant, tool, tool_type in TOOLS:
            sandbox = self._stack.enter_context(SandboxProcess(tool_type, index_lag=INDEX_LAG_S))
            self.connections.append(Connection(tenant, tool, sandbox))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def of(self, tenant: str, tool: str) -> Connection:
        """The connection by its names."""
        return next(c for c in self.connections if (c.tenant, c.tool) == (tenant, tool))

    def tenants(self) -> list[TenantConfig]:
        """The configurations, also written to tenants/*.yaml in the data directory; their secrets are put into the store."""
        store = open_store(self._settings)
        folder = self._settings.data_dir / "tenants"
        folder.mkdir(parents=True, exist_ok=True)
        configs = []
        for tenant, rules in ROUTES.items():
            tools = {c.tool: _tool(c, store) for c in self.connections if c.tenant == tenant}
            text = yaml.safe_dump({"tenant": tenant, "tools": tools, **rules}, sort_keys=False, allow_unicode=True)
            path = folder / f"{tenant}.yaml"
            path.write_text(text)
            configs.append(parse(text, path.name))
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


def _tool(c: Connection, store: SecretStore) -> dict[str, Any]:
    tool_type = c.sandbox.tool_type
    auth = {k: _secret(c, store, k, v) if k not in NOT_SECRET else v for k, v in c.sandbox.credentials["auth"].items()}
    webhook = {k: _secret(c, store, f"hook_{k}", v) if k in WEBHOOK_SECRETS else v for k, v in c.sandbox.webhook.items()}
    tool = {"type": tool_type, "base_url": c.sandbox.base_url, "auth": auth, "webhook": webhook, "search_lag": SEARCH_LAG_S}
    if tool_type == "jira":
        tool["project"] = "OPS"
    if actor := c.sandbox.credentials.get("actor"):
        tool["actor"] = actor
    return tool


def _secret(c: Connection, store: SecretStore, key: str, value: Any) -> str:
    name = f"{c.tool}_{key}"
    store.put(f"{c.tenant}/{name}", str(value).encode(), keep_old=False)
    return "${secret:" + name + "}"


def data_folder(chosen: Path | None) -> Path:
    """Where the demo keeps its data: the chosen folder, or a new temporary one that stays for looking at."""
    import tempfile

    return chosen if chosen is not None else Path(tempfile.mkdtemp(prefix="ai-agents-demo-"))
