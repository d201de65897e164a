"""The plugin under test: found by its tool type or in a folder, installed or not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from plugins.api import PluginConfigError, TicketingToolPlugin
from plugins.manifest import FILE_NAME, PluginManifest, read_manifest
from plugins.registry import PluginRegistry

FIXTURES = "fixtures"
EXPECTED = "expected.yaml"


@dataclass(frozen=True)
class Fixture:
    """A kept delivery: its exact bytes, and what expected.yaml says of it (None: it says nothing)."""

    name: str
    body: bytes
    told: dict[str, Any] | None

    @property
    def settings(self) -> dict[str, Any]:
        return dict((self.told or {}).get("settings") or {})


@dataclass(frozen=True)
class Subject:
    """A plugin's manifest, the folder that holds it, and the folder its package is imported from."""

    manifest: PluginManifest
    folder: Path
    root: Path

    @classmethod
    def find(cls, name: str) -> Subject:
        """By path (a plugin's folder, or the project around it), else by tool type; raises PluginConfigError.

        A bare word is a tool type where a plugin of that type is installed, else a folder here.
        """
        registry = PluginRegistry.discover()
        known = {manifest.tool_type for manifest in registry.manifests()}
        if name not in known and ("/" in name or Path(name).is_dir()):
            return cls.at(Path(name))
        manifest = registry.manifest(name)
        file = sys.modules[registry.get(name).__module__].__file__
        return cls.at(Path(file).parent if file else Path(name), manifest)

    @classmethod
    def at(cls, path: Path, manifest: PluginManifest | None = None) -> Subject:
        """The plugin in a folder; raises PluginConfigError when there is not exactly one."""
        found = [path / FILE_NAME] if (path / FILE_NAME).is_file() else sorted(path.glob(f"*/{FILE_NAME}"))
        if len(found) != 1:
            raise PluginConfigError(f"{path.name or path}: {'no' if not found else 'more than one'} {FILE_NAME} here or one folder down")
        folder = found[0].parent.resolve()
        manifest = manifest or read_manifest(found[0])
        package = manifest.entry.partition(":")[0].split(".")
        for above in (folder, *folder.parents):
            if above.name == package[0]:
                return cls(manifest, folder, above.parent)
        raise PluginConfigError(f"{FILE_NAME}: entry {manifest.entry} does not begin with a folder that holds it")

    @cached_property
    def kind(self) -> type[TicketingToolPlugin]:
        """The plugin's class, imported; raises PluginConfigError."""
        if str(self.root) not in sys.path:
            sys.path.insert(0, str(self.root))
        return PluginRegistry({self.manifest.tool_type: self.manifest}).get(self.manifest.tool_type)

    @cached_property
    def fixtures(self) -> tuple[Fixture, ...]:
        """Every kept delivery, by name; raises PluginConfigError when expected.yaml cannot be read."""
        folder, told = self.folder / FIXTURES, self._told()
        return tuple(
            Fixture(path.name, path.read_bytes(), told.get(path.name, told.get(path.stem)))
            for path in sorted(folder.glob("*"))
            if path.is_file() and path.name != EXPECTED
        )

    def unfounded(self) -> Iterator[str]:
        """What expected.yaml tells of and is not there."""
        names = {name for f in self.fixtures for name in (f.name, Path(f.name).stem)}
        yield from (name for name in self._told() if name not in names)

    def _told(self) -> dict[str, Any]:
        import yaml

        path = self.folder / FIXTURES / EXPECTED
        if not path.exists():
            return {}
        try:
            told = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as exc:
            raise PluginConfigError(f"{FIXTURES}/{EXPECTED}: {' '.join(str(exc).split())[:200]}") from None
        if not isinstance(told, dict) or not all(isinstance(entry, dict) for entry in told.values()):
            raise PluginConfigError(f"{FIXTURES}/{EXPECTED}: wanted is a mapping of file names to what they yield")
        return told
