"""`doctor`: what is wrong is found, said in one line, and comes with the next step."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import cli
from plugins.sandbox.server import SandboxProcess
from streams import checkup
from streams.clock import SystemClock
from streams.secrets.store import open_store
from streams.settings import Settings
from streams.tenants.apply import apply
from streams.tenants.config import TenantConfig


class TwoSecondsAgo(SystemClock):
    """A version applied by this clock is in force now."""

    def now(self) -> int:
        return super().now() - 2_000_000


def run(data_dir: Path, brokers: str, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    result = CliRunner().invoke(cli, ["--data-dir", str(data_dir), "--brokers", brokers, "doctor", *arguments, "-o", "json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, {row["check"]: row for row in json.loads(result.stdout)}


def test_without_a_broker_it_says_how_to_start_and_fails_nothing(tmp_path: Path) -> None:
    """A fresh installation is not a broken one."""
    code, found = run(tmp_path / "data", "127.0.0.1:1")
    assert code == 0
    assert (found["broker"]["state"], found["broker"]["next"]) == ("warn", "start everything with: ai-agents up")
    assert found["packages"]["state"] == "ok"
    assert found["java"]["state"] == "ok"


def test_a_data_directory_others_can_write_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert [f.state for f in checkup.data_dir(tmp_path)] == ["warn"]
    tmp_path.chmod(0o700)
    assert [f.state for f in checkup.data_dir(tmp_path)] == ["ok"]
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, state in ((checkup.DISK_FAIL - 1, "fail"), (checkup.DISK_WARN - 1, "warn"), (checkup.DISK_WARN, "ok")):
        monkeypatch.setattr("shutil.disk_usage", lambda _path, free=free: type("Usage", (), {"free": free})())
        assert [f.state for f in checkup.disk(tmp_path / "not" / "there")] == [state]


@pytest.mark.broker
def test_a_tenants_missing_secret_and_an_unknown_tool_are_failures(tmp_path: Path, broker: str) -> None:
    name = f"t{uuid.uuid4().hex[:8]}"
    config = TenantConfig.model_validate(
        {"tenant": name, "tools": {"desk": {"type": "zendesk", "base_url": "http://127.0.0.1:1", "auth": {"api_token": "${secret:token}"}}}}
    )
    asyncio.run(apply(broker, [config]))
    code, found = run(tmp_path, broker)
    assert code == 1
    assert found["topics"]["detail"] == "14 topics, 4 partitions"
    assert found[f"tenant {name}"]["detail"] == f"secrets not set: {name}/token"
    assert found[f"tenant {name}"]["next"] == f"ai-agents secret set {name}/token"
    open_store(Settings(data_dir=tmp_path)).put(f"{name}/token", b"x", keep_old=False)
    _, found = run(tmp_path, broker)
    assert found[f"tenant {name}"]["state"] == "ok"


@pytest.mark.broker
async def test_a_tools_own_health_check_is_asked_with_its_credentials(tmp_path: Path, broker: str) -> None:
    name = f"t{uuid.uuid4().hex[:8]}"
    store = open_store(Settings(data_dir=tmp_path))
    with SandboxProcess("zendesk") as sandbox:
        auth = dict(sandbox.credentials["auth"])
        store.put(f"{name}/token", str(auth["api_token"]).encode(), keep_old=False)
        tool = {"type": "zendesk", "base_url": sandbox.base_url, "auth": {"email": auth["email"], "api_token": "${secret:token}"}}
        await apply(broker, [TenantConfig.model_validate({"tenant": name, "tools": {"desk": tool}})], clock=TwoSecondsAgo())
        code, found = await asyncio.to_thread(run, tmp_path, broker, "--tenant", name, "--tool", "desk")
        assert found[f"tool {name}/desk"]["state"] in {"ok", "warn"}
        store.put(f"{name}/token", b"wrong", keep_old=False)
        code, found = await asyncio.to_thread(run, tmp_path, broker, "--tenant", name)
        assert code == 1
        assert found[f"tool {name}/desk"]["state"] == "fail"
        assert "wrong" not in json.dumps(found)
