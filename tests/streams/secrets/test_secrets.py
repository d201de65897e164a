"""Where secrets come from, what is kept of them on disk, and how a rotation reaches a running process."""

from __future__ import annotations

import base64
import json
import os
import stat
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.api import PluginConfigError
from streams.secrets.directory import LOOK_EVERY as DIRECTORY_LOOK_EVERY
from streams.secrets.directory import DirectorySecrets
from streams.secrets.encrypted_file import LOOK_EVERY, RECORD_USE_EVERY, EncryptedFileSecrets
from streams.secrets.environment import EnvironmentSecrets
from streams.secrets.store import MAX_VALUE_BYTES, LayeredStore, SecretStoreError, open_store, resolver
from streams.settings import Settings


class Ticks:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def encrypted(folder: Path, ticks: Ticks | None = None, **environment: str) -> EncryptedFileSecrets:
    return EncryptedFileSecrets(folder, environment, ticks or time.monotonic, lambda: 1_700_000_000_000_000)


def test_a_value_comes_back_and_is_nowhere_readable_on_disk(tmp_path: Path) -> None:
    store = encrypted(tmp_path)
    store.put("acme/hook", b"correct horse", keep_old=False)
    assert list(store.live("acme/hook")) == [b"correct horse"]
    assert list(encrypted(tmp_path).live("acme/hook")) == [b"correct horse"]
    for file in tmp_path.iterdir():
        assert b"correct horse" not in file.read_bytes()
        if file.name in {"secrets.json", "secrets.key"}:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_values_are_live_during_a_rotation_and_never_three(tmp_path: Path) -> None:
    """The tool and we cannot change a webhook secret at the same moment; both values verify until the next set."""
    store = encrypted(tmp_path)
    for value, keep in ((b"one", False), (b"two", True), (b"three", True)):
        store.put("acme/hook", value, keep_old=keep)
    assert list(store.live("acme/hook")) == [b"three", b"two"]
    store.put("acme/hook", b"four", keep_old=False)
    assert list(store.live("acme/hook")) == [b"four"]
    assert store.remove("acme/hook")
    assert not store.remove("acme/hook")
    assert list(store.live("acme/hook")) == []


def test_a_running_process_sees_a_rotation_within_seconds(tmp_path: Path) -> None:
    """Doors are not restarted for a new webhook secret."""
    ticks = Ticks()
    writer, door = encrypted(tmp_path), encrypted(tmp_path, ticks)
    writer.put("acme/hook", b"one", keep_old=False)
    assert list(door.live("acme/hook")) == [b"one"]
    writer.put("acme/hook", b"two", keep_old=True)
    assert list(door.live("acme/hook")) == [b"one"]
    ticks.at += LOOK_EVERY
    assert list(door.live("acme/hook")) == [b"two", b"one"]


def test_a_file_that_cannot_be_read_again_leaves_the_known_values_in_use(tmp_path: Path) -> None:
    """A half restored backup must not close the door; a process that starts anew is told."""
    ticks = Ticks()
    door = encrypted(tmp_path, ticks)
    door.put("acme/hook", b"one", keep_old=False)
    door.live("acme/hook")
    (tmp_path / "secrets.json").write_bytes(b"{torn")
    ticks.at += LOOK_EVERY
    assert list(door.live("acme/hook")) == [b"one"]
    with pytest.raises(SecretStoreError, match="cannot be read"):
        encrypted(tmp_path).live("acme/hook")


def test_a_value_moved_under_another_name_does_not_open(tmp_path: Path) -> None:
    """The name is associated data: whoever can write the file cannot make one tenant's secret another's."""
    store = encrypted(tmp_path)
    store.put("acme/hook", b"one", keep_old=False)
    file = tmp_path / "secrets.json"
    content = json.loads(file.read_bytes())
    content["secrets"]["globex/hook"] = content["secrets"]["acme/hook"]
    file.write_text(json.dumps(content))
    with pytest.raises(SecretStoreError, match="globex/hook does not open") as caught:
        encrypted(tmp_path).live("acme/hook")
    assert "one" not in str(caught.value)


def test_the_key_may_come_from_the_environment_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    right, wrong = os.urandom(32), os.urandom(32)
    encrypted(tmp_path, AI_AGENTS_SECRET_KEY=base64.b64encode(right).decode()).put("acme/hook", b"one", keep_old=False)
    assert not (tmp_path / "secrets.key").exists()
    assert list(encrypted(tmp_path, AI_AGENTS_SECRET_KEY=right.hex()).live("acme/hook")) == [b"one"]
    assert list(encrypted(tmp_path, AI_AGENTS_SECRET_KEY=base64.urlsafe_b64encode(right).decode()).live("acme/hook")) == [b"one"]
    with pytest.raises(SecretStoreError, match="AI_AGENTS_SECRET_KEY"):
        encrypted(tmp_path, AI_AGENTS_SECRET_KEY=wrong.hex()).live("acme/hook")
    with pytest.raises(SecretStoreError, match="32 bytes"):
        encrypted(tmp_path, AI_AGENTS_SECRET_KEY="short").live("acme/hook")
    with pytest.raises(SecretStoreError, match="is missing"):
        encrypted(tmp_path).live("acme/hook")


def test_a_key_file_others_can_read_is_refused(tmp_path: Path) -> None:
    encrypted(tmp_path).put("acme/hook", b"one", keep_old=False)
    (tmp_path / "secrets.key").chmod(0o640)
    with pytest.raises(SecretStoreError, match="chmod 600"):
        encrypted(tmp_path).live("acme/hook")


def _put(folder: Path, number: int) -> None:
    EncryptedFileSecrets(folder).put(f"acme/s{number}", b"value %d" % number, keep_old=False)


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """Also on first use, when each of them would make the key."""
    workers = [get_context("spawn").Process(target=_put, args=(tmp_path, n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    store = encrypted(tmp_path)
    assert [list(store.live(f"acme/s{n}")) for n in range(4)] == [[b"value %d" % n] for n in range(4)]


def test_last_use_is_kept_to_the_minute(tmp_path: Path) -> None:
    """Whoever ends a rotation wants to know that the old value is no longer asked for by its tenant's tools."""
    ticks = Ticks()
    store = encrypted(tmp_path, ticks)
    store.put("acme/hook", b"one", keep_old=False)
    store.put("acme/token", b"two", keep_old=False)
    assert [info.used_at for info in store.names()] == [None, None]
    assert store.has("acme/hook")
    assert [info.used_at for info in store.names()] == [None, None]
    store.live("acme/hook")
    assert [info.used_at for info in store.names()] == [1_700_000_000_000_000, None]
    ticks.at += 10
    store.live("acme/token")
    ticks.at += RECORD_USE_EVERY
    store.live("acme/hook")
    assert [info.used_at for info in store.names()] == [1_700_000_000_000_000, 1_700_000_000_000_000 - int(RECORD_USE_EVERY * 1e6)]


def test_reading_a_secret_is_cheap_enough_for_every_request(tmp_path: Path) -> None:
    store = LayeredStore([EnvironmentSecrets({}), EncryptedFileSecrets(tmp_path, {})])
    store.put("acme/hook", b"one", keep_old=False)
    resolve = resolver(store, "acme")
    resolve("${secret:hook}")
    best = 1e9
    for _ in range(20):
        started = time.perf_counter_ns()
        for _ in range(1000):
            resolve("${secret:hook}")
        best = min(best, (time.perf_counter_ns() - started) / 1000)
    assert best < 5000, f"{best:.0f} ns"


@given(st.binary(min_size=1, max_size=2000))
def test_any_bytes_are_kept_exactly(tmp_path_factory: pytest.TempPathFactory, value: bytes) -> None:
    store = encrypted(tmp_path_factory.mktemp("secrets"))
    store.put("acme/hook", value, keep_old=False)
    assert list(store.live("acme/hook")) == [value]


@pytest.mark.parametrize("name", ["hook", "acme/", "/hook", "acme/a/b", "Acme/hook", "../x/y", "acme/ho.ok", "acme/hook\n"])
def test_names_are_tenant_and_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(SecretStoreError, match="is not TENANT/NAME"):
        encrypted(tmp_path).put(name, b"x", keep_old=False)
    with pytest.raises(SecretStoreError, match="is not TENANT/NAME"):
        DirectorySecrets(tmp_path).live(name)


def test_empty_and_huge_values_are_refused(tmp_path: Path) -> None:
    for value in (b"", b"x" * (MAX_VALUE_BYTES + 1)):
        with pytest.raises(SecretStoreError):
            encrypted(tmp_path).put("acme/hook", value, keep_old=False)


def test_the_environment_gives_secrets_and_their_old_values() -> None:
    store = EnvironmentSecrets(
        {"AI_AGENTS_SECRET_ACME__JIRA_HOOK": "new", "AI_AGENTS_SECRET_ACME__JIRA_HOOK__OLD": "old", "AI_AGENTS_SECRET_KEY": "k"}
    )
    assert list(store.live("acme/jira-hook")) == [b"new", b"old"]
    assert list(store.live("acme/other")) == []
    assert [(info.name, info.live) for info in store.names()] == [("acme/jira_hook", 2)]


def test_a_mounted_directory_is_read_again_when_its_files_change(tmp_path: Path) -> None:
    ticks = Ticks()
    store = DirectorySecrets(tmp_path, ticks)
    assert list(store.live("acme/hook")) == []
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "hook").write_text("one\n")
    assert list(store.live("acme/hook")) == [b"one"]
    (tmp_path / "acme" / "hook").write_text("two\r\n")
    (tmp_path / "acme" / "hook.old").write_text("one")
    assert list(store.live("acme/hook")) == [b"one"]
    ticks.at += DIRECTORY_LOOK_EVERY
    assert list(store.live("acme/hook")) == [b"two", b"one"]
    assert [(info.name, info.live, info.source) for info in store.names()] == [("acme/hook", 2, "directory")]
    with pytest.raises(SecretStoreError, match="mounted"):
        store.put("acme/hook", b"x", keep_old=False)


def test_the_environment_goes_before_the_file_and_the_directory_stands_in_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    open_store(settings).put("acme/hook", b"file", keep_old=False)
    assert list(open_store(settings).live("acme/hook")) == [b"file"]
    monkeypatch.setenv("AI_AGENTS_SECRET_ACME__HOOK", "environment")
    assert list(open_store(settings).live("acme/hook")) == [b"environment"]
    monkeypatch.delenv("AI_AGENTS_SECRET_ACME__HOOK")
    monkeypatch.setenv("AI_AGENTS_SECRETS_DIR", str(tmp_path))
    assert list(open_store(settings).live("acme/hook")) == []


def test_a_reference_is_resolved_within_its_tenant_only(tmp_path: Path) -> None:
    """Another tenant's secret of the same name is another secret."""
    store = encrypted(tmp_path)
    store.put("acme/hook", b"one", keep_old=False)
    assert list(resolver(store, "acme")("${secret:hook}")) == [b"one"]
    assert list(resolver(store, "acme")("plain text")) == [b"plain text"]
    with pytest.raises(PluginConfigError, match="ai-agents secret set globex/hook"):
        resolver(store, "globex")("${secret:hook}")
