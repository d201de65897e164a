"""What every plugin promises of its calls, for TOPdesk."""

from __future__ import annotations

from tests.contracts.tool_contract import ToolContract


class TestTopdesk(ToolContract):
    tool_type = "topdesk"
    missing_id = "00000000-0000-4000-8000-000000000000"
    retries_webhooks = False
