"""Every version of every tenant's configuration, in memory: an event is judged by the version of its own time.

An event uses the highest version whose effective_at <= its received_at, so a re-read and a replay decide as the first reading did.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from plugins.manager import ToolBinding
from schemas.events import TenantConfigured
from streams.routing.rules import RuleSet
from streams.tenants.config import TenantConfig, from_json


@dataclass(frozen=True)
class TenantVersion:
    """One version of one tenant's configuration, ready to judge by: its routes compiled, its tools' `bindings` by name."""

    tenant: str
    version: int
    effective_at: int
    config: TenantConfig
    rules: RuleSet
    bindings: dict[str, ToolBinding]


@dataclass(slots=True)
class _Line:
    """One tenant's versions by number, None where it was removed; and to search: `current[i]` is in force from `times[i]` on."""

    records: dict[int, TenantConfigured] = field(default_factory=dict)
    versions: dict[int, TenantVersion | None] = field(default_factory=dict)
    newest: TenantVersion | None = None
    times: list[int] = field(default_factory=list)
    current: list[TenantVersion | None] = field(default_factory=list)


class TenantRegistry:
    """Applies what tenants.v1 says, in any order and any number of times, and answers by time. Not to be shared between threads.

    A recorded configuration this build cannot read leaves the version before it in force, and is named in `unreadable`.
    """

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self.unreadable: dict[tuple[str, int], str] = {}

    def apply(self, event: TenantConfigured) -> None:
        """Takes a version in. Of two records of the same version the later one counts, as on a compacted topic."""
        line = self._lines.setdefault(event.tenant, _Line())
        if line.records.get(event.version) == event:
            return
        in_order = event.version > max(line.records, default=0) and event.effective_at > (line.times[-1] if line.times else -1)
        line.records[event.version] = event
        if not in_order:
            line.newest, line.versions, line.times, line.current = None, {}, [], []
        for number in [event.version] if in_order else sorted(line.records):
            self._add(line, line.records[number])
        if not in_order:
            _search_order(line)

    def _add(self, line: _Line, record: TenantConfigured) -> None:
        """Adds a version newer than all in `line`."""
        if not record.removed:
            line.newest = self._version(record, line.newest) or line.newest
        line.versions[record.version] = None if record.removed else line.newest
        line.times.append(record.effective_at)
        line.current.append(line.versions[record.version])

    def _version(self, record: TenantConfigured, before: TenantVersion | None) -> TenantVersion | None:
        try:
            config = from_json(record.config)
            rules = config.rules(record.version)
        except ValueError as exc:
            self.unreadable[record.tenant, record.version] = f"{type(exc).__name__}: this version of ai-agents cannot read it"
            return None
        self.unreadable.pop((record.tenant, record.version), None)
        return TenantVersion(record.tenant, record.version, record.effective_at, config, rules, _bindings(record, config, before))

    def at(self, tenant: str, received_at: int) -> TenantVersion | None:
        """The version in force at this time; None for an unknown or removed tenant. Below a microsecond."""
        line = self._lines.get(tenant)
        if line is None:
            return None
        index = bisect_right(line.times, received_at)
        return line.current[index - 1] if index else None

    def binding(self, tenant: str, tool: str, at: int) -> ToolBinding | None:
        """A tenant's tool as configured at this time. A tool that a new version leaves as it was keeps its binding."""
        version = self.at(tenant, at)
        return version.bindings.get(tool) if version is not None else None

    def tenants(self) -> list[str]:
        """The names of all tenants ever configured, removed ones too, sorted."""
        return sorted(self._lines)

    def records(self, tenant: str) -> list[TenantConfigured]:
        """Every version of a tenant as recorded, oldest first."""
        line = self._lines.get(tenant)
        return [line.records[number] for number in sorted(line.records)] if line else []


def _search_order(line: _Line) -> None:
    """Puts versions whose effective_at do not grow with their numbers (a clock stepped back) in order: the highest begun one holds."""
    line.times, line.current = [], []
    highest = 0
    for number, record in sorted(line.records.items(), key=lambda item: (item[1].effective_at, item[0])):
        if number > highest:
            highest = number
            line.times.append(record.effective_at)
            line.current.append(line.versions[number])


def _bindings(record: TenantConfigured, config: TenantConfig, before: TenantVersion | None) -> dict[str, ToolBinding]:
    bindings: dict[str, ToolBinding] = {}
    for name, tool in config.tools.items():
        if before is not None and before.config.tools.get(name) == tool:
            bindings[name] = before.bindings[name]
        else:
            bindings[name] = ToolBinding(
                tenant=record.tenant, tool=name, tool_type=tool.type, settings=tool.settings(), version=record.version
            )
    return bindings
