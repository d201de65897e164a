"""Freshservice's calls, against its sandbox over real sockets."""

from __future__ import annotations

from tests.contracts.tool_contract import ToolContract


class TestFreshservice(ToolContract):
    tool_type = "freshservice"
