"""The registry: which plugins there are, known from their manifests; a plugin's code is imported when it is first used."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from plugins.api import PluginConfigError, TicketingToolPlugin
from plugins.manifest import FILE_NAME, PluginManifest, read_manifest

ENTRY_POINT_GROUP = "ai_agents.plugins"


class PluginRegistry:
    """Plugins by tool type. Those beside this file come first; other distributions' never replace them."""

    def __init__(self, manifests: Mapping[str, PluginManifest], faults: Sequence[str] = ()) -> None:
        self._manifests = dict(manifests)
        self._classes: dict[str, type[TicketingToolPlugin]] = {}
        self.faults = tuple(faults)
        """What could not be read, one sentence each; a broken foreign plugin must not stop the others."""

    @classmethod
    def discover(cls) -> PluginRegistry:
        """Reads every manifest: this package's folders, then the entry points of other distributions."""
        found: dict[str, PluginManifest] = {}
        faults: list[str] = []
        here = Path(__file__).parent
        for path in sorted(here.glob(f"*/{FILE_NAME}")):
            manifest = read_manifest(path)
            found[manifest.tool_type] = manifest
        for point in entry_points(group=ENTRY_POINT_GROUP):
            if point.value.partition(".")[0] == "plugins":
                continue  # our own, read above
            try:
                manifest = _foreign(point)
            except PluginConfigError as exc:
                faults.append(str(exc))
                continue
            if manifest.tool_type in found:
                faults.append(f"{point.value}: there is a plugin for {manifest.tool_type} already; this one is not used")
                continue
            found[manifest.tool_type] = manifest
        return cls(found, faults)

    def manifests(self) -> list[PluginManifest]:
        """Every plugin, by tool type."""
        return [self._manifests[name] for name in sorted(self._manifests)]

    def manifest(self, tool_type: str) -> PluginManifest:
        """One plugin's manifest; raises PluginConfigError for an unknown tool type."""
        manifest = self._manifests.get(tool_type)
        if manifest is None:
            told = f"there is no plugin for {tool_type!r}; there are: {', '.join(sorted(self._manifests))}"
            why = [f"not usable: {fault}" for fault in self.faults] or ["one of your own is there after: pip install -e FOLDER"]
            raise PluginConfigError("; ".join([told, *why]))
        return manifest

    def get(self, tool_type: str) -> type[TicketingToolPlugin]:
        """The plugin's class, imported on the first ask; raises PluginConfigError when it cannot be."""
        known = self._classes.get(tool_type)
        if known is not None:
            return known
        manifest = self.manifest(tool_type)
        kind = load_class(manifest.entry)
        if not issubclass(kind, TicketingToolPlugin) or kind.tool_type != tool_type:
            raise PluginConfigError(f"{manifest.entry} is no plugin for {tool_type}")
        self._classes[tool_type] = kind
        return kind

    def sandbox(self, tool_type: str) -> type[object]:
        """The plugin's sandbox class; raises PluginConfigError when it brings none."""
        manifest = self.manifest(tool_type)
        if manifest.sandbox is None:
            raise PluginConfigError(f"the plugin for {tool_type} brings no sandbox")
        return load_class(manifest.sandbox)


def _foreign(point: EntryPoint) -> PluginManifest:
    """The manifest of another distribution's plugin, beside its top package, found without importing it."""
    package = point.value.partition(":")[0].partition(".")[0]
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / FILE_NAME
        if path.exists():
            return read_manifest(path)
    raise PluginConfigError(f"{point.value}: no {FILE_NAME} in the package {package}")


def load_class(entry: str) -> type:
    """The class that module:Class names; raises PluginConfigError when it cannot be imported."""
    module, _, name = entry.partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
    except Exception as exc:  # foreign code may raise anything; one broken plugin must not stop the others' events
        raise PluginConfigError(f"{entry} cannot be imported: {type(exc).__name__}: {exc}") from exc
    if not isinstance(kind, type):
        raise PluginConfigError(f"{entry} is no class")
    return kind
