"""The conformance kit over Freshdesk."""

from __future__ import annotations

from plugins.conformance.pytest_plugin import ConformanceSuite


class TestFreshdesk(ConformanceSuite):
    tool_type = "freshdesk"
