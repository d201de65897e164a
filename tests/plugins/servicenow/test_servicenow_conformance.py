"""What every plugin promises, check by check."""

from __future__ import annotations

from plugins.conformance.pytest_plugin import ConformanceSuite


class TestServiceNow(ConformanceSuite):
    tool_type = "servicenow"
