"""SysAid's calls, against its sandbox over real sockets."""

from __future__ import annotations

from tests.contracts.tool_contract import ToolContract


class TestSysAid(ToolContract):
    tool_type = "sysaid"
