"""The conformance kit over TOPdesk."""

from __future__ import annotations

from plugins.conformance.pytest_plugin import ConformanceSuite


class TestTopdesk(ConformanceSuite):
    tool_type = "topdesk"
