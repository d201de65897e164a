"""What the embedded broker is told: Kafka's server.properties and its log4j2 settings, as text; pure."""

from __future__ import annotations

from pathlib import Path

from streams.topics import MAX_RECORD_BYTES

_SLACK_BYTES = 64 << 10
"""Room for the headers of a batch around the largest record a topic takes."""


def server_properties(*, log_dir: Path, port: int, controller_port: int, fsync: bool) -> str:
    """One node that is broker and controller, sized for one machine.

    Kafka flushes to the page cache, which outlives a killed broker but not a power cut; `fsync` flushes each batch.
    """
    settings: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
        "log.dirs": log_dir.as_posix(),
        "auto.create.topics.enable": "false",
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 200,
        "message.max.bytes": MAX_RECORD_BYTES + _SLACK_BYTES,
        "replica.fetch.max.bytes": MAX_RECORD_BYTES + _SLACK_BYTES,
        # After a kill the node registers again only when its former self has timed out.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        "metadata.max.idle.interval.ms": 5000,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 4,
        "num.recovery.threads.per.data.dir": 2,
        "log.cleaner.dedupe.buffer.size": 16 << 20,
    }
    if fsync:
        settings["log.flush.interval.messages"] = 1
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def log4j2_properties(log_file: Path) -> str:
    """The broker's own log: one file of at most 10 MB and two before it."""
    return f"""\
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log_file.as_posix()}
appender.file.filePattern = {log_file.as_posix()}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{ISO8601}} %p %m (%c)%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 2
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""
