"""The conformance kit over Cherwell."""

from __future__ import annotations

from plugins.conformance.pytest_plugin import ConformanceSuite


class TestCherwell(ConformanceSuite):
    tool_type = "cherwell"
