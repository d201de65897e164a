"""Zendesk's plugin keeps what every plugin promises: docs/conformance.md."""

from __future__ import annotations

from plugins.conformance.pytest_plugin import ConformanceSuite


class TestZendeskConforms(ConformanceSuite):
    tool_type = "zendesk"
