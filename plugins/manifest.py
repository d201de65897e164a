"""plugin.toml: what can be known of a plugin without running it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from plugins.api import API_VERSION, PluginConfigError

FILE_NAME = "plugin.toml"


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
