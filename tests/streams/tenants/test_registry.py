"""Which version of a tenant's configuration an event is judged by."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import TenantConfigured
from schemas.ticket import Priority, TicketMetadata
from streams.routing.decision import Dropped
from streams.tenants.apply import EFFECTIVE_AFTER_US, plan
from streams.tenants.config import TenantConfig, ToolConfig
from streams.tenants.registry import TenantRegistry


def a_config(tenant: str = "acme", **tools: str) -> TenantConfig:
    """Tools by name, each with a project, so that two differ where the projects do."""
    return TenantConfig(tenant=tenant, tools={n: ToolConfig.model_validate({"type": "jira", "project": p}) for n, p in tools.items()})


def configured(version: int, effective_at: int, config: TenantConfig | None = None, *, removed: bool = False) -> TenantConfigured:
    text = (config or a_config(jira=f"P{version}")).canonical()
    return TenantConfigured(
        tenant="acme", version=version, effective_at=effective_at, applied_at=effective_at - 1, removed=removed, config=text
    )


def version_at(registry: TenantRegistry, at: int) -> int | None:
    version = registry.at("acme", at)
    return version.version if version else None


def test_an_event_uses_the_highest_version_in_force_when_it_was_received() -> None:
    """So a re-read after a change of rules decides as the first reading did."""
    registry = TenantRegistry()
    registry.apply(configured(1, 1000))
    registry.apply(configured(2, 2000))
    assert [version_at(registry, at) for at in (999, 1000, 1999, 2000, 9999)] == [None, 1, 1, 2, 2]
    assert registry.at("other", 5000) is None
    assert registry.tenants() == ["acme"]


def test_a_removed_tenant_is_unknown_from_then_on_and_only_from_then_on() -> None:
    registry = TenantRegistry()
    registry.apply(configured(1, 1000))
    registry.apply(configured(2, 2000, removed=True))
    registry.apply(configured(3, 3000))
    assert [version_at(registry, at) for at in (1500, 2500, 3500)] == [1, None, 3]


@given(st.permutations([(1, 1000), (2, 3000), (3, 2000), (4, 4000)]), st.integers(0, 5000))
def test_the_answer_does_not_depend_on_the_order_records_arrive_in(order: list[tuple[int, int]], at: int) -> None:
    """A clock that stepped back may give a later version an earlier time; the highest version begun still holds."""
    registry = TenantRegistry()
    for version, effective_at in order:
        registry.apply(configured(version, effective_at))
        registry.apply(configured(version, effective_at))
    begun = [version for version, effective_at in order if effective_at <= at]
    assert version_at(registry, at) == max(begun, default=None)


def test_a_configuration_this_build_cannot_read_leaves_the_one_before_in_force() -> None:
    """A newer release may record settings an older worker does not know; it goes on and says so."""
    registry = TenantRegistry()
    registry.apply(configured(1, 1000))
    registry.apply(
        TenantConfigured(tenant="acme", version=2, effective_at=2000, applied_at=0, config='{"tenant":"acme","tools":{},"novel":1}')
    )
    assert version_at(registry, 2500) == 1
    assert list(registry.unreadable) == [("acme", 2)]


def test_a_tool_that_a_new_version_leaves_as_it_was_keeps_its_binding() -> None:
    """A change of routes must not close and rebuild every connection of the tenant."""
    registry = TenantRegistry()
    registry.apply(configured(1, 1000, a_config(jira="A", desk="B")))
    registry.apply(configured(2, 2000, a_config(jira="A", desk="C")))
    same, other = registry.binding("acme", "jira", 2500), registry.binding("acme", "desk", 2500)
    assert same is registry.binding("acme", "jira", 1500)
    assert same is not None
    assert other is not None
    assert (same.tool_type, same.settings["project"], same.version, other.version) == ("jira", "A", 1, 2)
    assert registry.binding("acme", "nope", 2500) is None
    assert registry.binding("acme", "jira", 500) is None


def test_the_answer_takes_less_than_a_microsecond() -> None:
    """It is asked for every event, at the door and in route. The best of several rounds, since the machine is shared."""
    registry = TenantRegistry()
    for version in range(1, 101):
        registry.apply(configured(version, version * 1000))
    at, best = registry.at, 1e9
    for _ in range(20):
        started = time.perf_counter_ns()
        for _ in itertools.repeat(None, 2000):
            at("acme", 50_500)
        best = min(best, (time.perf_counter_ns() - started) / 2000)
    assert best < 1000, f"{best:.0f} ns"


def test_the_next_version_begins_after_all_before_it_and_nothing_changed_publishes_nothing() -> None:
    registry = TenantRegistry()
    config = a_config(jira="A")
    first = plan(registry, config, 5_000_000)
    assert first is not None
    assert (first.version, first.effective_at) == (1, 5_000_000 + EFFECTIVE_AFTER_US)
    registry.apply(first)
    assert plan(registry, config, 9_000_000) is None
    second = plan(registry, a_config(jira="B"), 1_000_000)  # this machine's clock is behind the one that applied first
    assert second is not None
    assert (second.version, second.effective_at) == (2, first.effective_at + 1)


def test_a_removed_tenant_applied_again_is_a_new_version() -> None:
    registry = TenantRegistry()
    config = a_config(jira="A")
    registry.apply(configured(1, 1000, config, removed=True))
    event = plan(registry, config, 2000)
    assert event is not None
    assert event.version == 2


@pytest.mark.parametrize("versions", [500])
def test_many_versions_are_taken_in_quickly(versions: int) -> None:
    """Every process reads all versions at its start; the cost of one must not grow with those before it."""
    registry = TenantRegistry()
    records = [configured(version, version * 1000) for version in range(1, versions + 1)]
    started = time.process_time()
    for record in records:
        registry.apply(record)
    assert time.process_time() - started < 1.0


def test_a_version_judges_by_its_own_compiled_rules() -> None:
    registry = TenantRegistry()
    config = TenantConfig.model_validate(
        {
            "tenant": "acme",
            "tools": {"jira": {"type": "jira"}, "desk": {"type": "zendesk"}},
            "routes": [
                {"name": "urgent", "match": {"priority": "P1"}, "to": "jira", "do": ["mirror"]},
                {"name": "spam", "match": {"subject": "*free*"}, "do": ["drop"]},
            ],
            "default": {"to": "desk", "do": ["note"]},
        }
    )
    registry.apply(configured(7, 1000, config))
    version = registry.at("acme", 1000)
    assert version is not None

    def decision(**ticket: Any) -> Any:
        answer = version.rules.decide(TicketMetadata(tenant_id="acme", ticket_id="1", **ticket))
        return answer if isinstance(answer, Dropped) or answer is None else answer[0]

    urgent = decision(priority=Priority.URGENT)
    assert (urgent.target, urgent.actions, urgent.rule, urgent.rule_set_version) == ("jira", ["mirror"], "urgent", 7)
    assert (decision().target, decision().rule) == ("desk", None)
    assert isinstance(decision(subject="Free phones"), Dropped)
