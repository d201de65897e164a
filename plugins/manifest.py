"""plugin.toml: what can be known of a plugin without running it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from plugins.api import API_VERSION, PluginConfigError, Priority, TicketStatus, TicketType

FILE_NAME = "plugin.toml"


class Conformance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the conformance kit cannot find out by itself."""

    missing_id: str = "99999999"
    """A ticket id of the right form that does not exist."""
    strange_field: str = "no_such_field"
    """A custom field the sandbox does not have."""
    signs_body: bool = False
    """Webhooks carry a signature over the body, not only a secret."""
    timestamped: bool = False
    """The signature covers a time, so an old delivery is refused."""
    retries_webhooks: bool = True
    """The tool sends a delivery again when it got no 2xx."""
    types: tuple[TicketType, ...] = (TicketType.INCIDENT, TicketType.REQUEST)
    """The types create_ticket and update_ticket can set; empty where the tool's tickets have none."""
    priorities: tuple[Priority, ...] = (Priority.LOW, Priority.MEDIUM, Priority.HIGH, Priority.URGENT)
    """The priorities the tool has a word for; the plugin writes another as the nearest of these."""
    statuses: tuple[TicketStatus, ...] = (
        TicketStatus.NEW,
        TicketStatus.OPEN,
        TicketStatus.PENDING,
        TicketStatus.RESOLVED,
        TicketStatus.CLOSED,
    )
    """The statuses the tool has a word for."""
    settings: dict[str, Any] = {}
    """Settings beyond what the sandbox tells."""


class PluginManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One plugin, as its plugin.toml tells. `entry` and `sandbox` are module:Class and are imported on use only."""

    name: str
    tool_type: str
    version: str
    entry: str
    summary: str
    api: str = API_VERSION
    sandbox: str | None = None
    license: str = "Apache-2.0"
    signature: str = "none"
    """How its webhooks are authenticated, in a few words."""
    methods: list[str] = []
    """What may be called: the plugin's methods, those of its capabilities too."""
    capabilities: list[str] = []
    conformance: Conformance = Conformance()
    settings: dict[str, Setting] = {}
    """What a tenant may set, by dotted path: "auth.email"."""


class Setting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One setting of a tenant's tool."""

    doc: str
    required: bool = False
    secret: bool = False
    default: str | int | float | bool | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    plugin: PluginManifest


def read_manifest(path: Path) -> PluginManifest:
    """The manifest in a file; raises PluginConfigError that names the file and the fault."""
    try:
        manifest = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File).plugin
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as exc:
        raise PluginConfigError(f"{path.parent.name}/{path.name}: {exc}") from None
    if manifest.api != API_VERSION:
        raise PluginConfigError(f"{path.parent.name}/{path.name}: it asks for plugin API {manifest.api}, this is {API_VERSION}")
    return manifest
