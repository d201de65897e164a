"""Kafka's jars are the ones that were pinned, whoever served them, and are fetched once."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest
import requests

from streams.broker import jars as jars_module
from streams.broker.errors import BrokerError, UntrustedJar
from streams.broker.jars import KAFKA_VERSION, Jar, ensure_jars, read_pins

CONTENT = b"not really a jar"


@pytest.fixture
def cached(tmp_path: Path) -> tuple[Jar, Path, Path]:
    """One pinned jar, intact in a cache of its own."""
    jar = Jar("org.example", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest())
    path = tmp_path / f"kafka-{KAFKA_VERSION}" / "thing-1.0.jar"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return jar, tmp_path, path


def served(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Makes the repository serve these bytes for any coordinates."""

    def resolve(artifact: object) -> Path:
        path: Path = artifact.cached_path  # type: ignore[attr-defined]  # jgo's Artifact
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    monkeypatch.setattr("jgo.maven.Artifact.resolve", resolve)


def test_every_pin_is_whole_and_kafka_is_among_them() -> None:
    """The file is the lock of the broker; a torn line would fetch an unpinned jar, or none."""
    pins = read_pins()
    assert len({p.file_name for p in pins}) == len(pins)
    assert all(len(bytes.fromhex(p.sha256)) == 32 for p in pins)
    assert ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION) in {(p.group, p.artifact, p.version) for p in pins}


def test_a_full_cache_needs_no_network(cached: tuple[Jar, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first start a laptop on a train must work."""
    monkeypatch.setattr(socket, "socket", None)
    jar, cache, path = cached
    assert ensure_jars(pins=[jar], cache=cache) == [path]


def test_a_damaged_jar_is_fetched_anew(cached: tuple[Jar, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache torn by a full disk would otherwise fail each start until someone finds and deletes it."""
    jar, cache, path = cached
    path.write_bytes(CONTENT[:5])
    served(monkeypatch, CONTENT)
    said: list[str] = []
    assert ensure_jars(said.append, pins=[jar], cache=cache) == [path]
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert said[0].startswith(f"fetching Apache Kafka {KAFKA_VERSION}: 1 jars")


def test_a_jar_with_other_bytes_is_refused(cached: tuple[Jar, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The jars run with the user's rights: a repository or proxy that serves something else must not get them in."""
    jar, cache, path = cached
    path.unlink()
    served(monkeypatch, b"something else")
    with pytest.raises(UntrustedJar, match=r"thing-1\.0\.jar does not have its pinned SHA-256"):
        ensure_jars(pins=[jar], cache=cache)
    assert list(path.parent.iterdir()) == []


def test_no_network_on_the_first_use_is_one_sentence(cached: tuple[Jar, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first start is where a new user meets it."""
    jar, cache, path = cached
    path.unlink()

    def unreachable(*_args: object, **_kwargs: object) -> None:
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "request", unreachable)
    with pytest.raises(BrokerError, match=r"not in the cache yet and the Maven repository cannot be reached"):
        ensure_jars(pins=[jar], cache=cache)


def test_the_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI and locked-down machines keep caches elsewhere than the home folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("AI_AGENTS_CACHE_DIR", raising=False)
    assert jars_module.cache_dir() == tmp_path / "xdg" / "ai-agents"
    monkeypatch.setenv("AI_AGENTS_CACHE_DIR", str(tmp_path / "own"))
    assert jars_module.cache_dir() == tmp_path / "own"
