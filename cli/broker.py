"""`ai-agents broker`: a real Kafka without Docker."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING

import click

from cli.output import FAILED, IN_USE, INCOMPATIBLE, NOT_FOUND, VERIFICATION, CommandError, document, output_option, say
from streams.broker.errors import BrokerError, InUse, NoSuchTopic, PartitionMismatch, UntrustedJar
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.broker.embedded import EmbeddedBroker

_STOP_TIMEOUT_S = 10.0
_EXIT_CODES: dict[type[BrokerError], int] = {
    InUse: IN_USE,
    UntrustedJar: VERIFICATION,
    PartitionMismatch: INCOMPATIBLE,
    NoSuchTopic: NOT_FOUND,
}


def command_error(exc: BrokerError) -> CommandError:
    """A broker's error as this command's, with its exit code."""
    return CommandError(str(exc), _EXIT_CODES.get(type(exc), FAILED))


@click.group()
def broker() -> None:
    """A real Kafka without Docker: one node on this machine.

    Example: ai-agents broker start
    """


@broker.command("start")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of 127.0.0.1 [default: 9092, or a free one].")
@click.option("--ephemeral", is_flag=True, help="Keep the data in a temporary folder that goes when the broker stops.")
@click.option("--heap-mb", type=click.IntRange(min=192), default=512, show_default=True, help="Java's heap.")
@click.option("--fsync", is_flag=True, help="Flush each batch to disk: safe against power loss too, slower.")
@click.option("--detach", is_flag=True, help="Leave it running in the background; end it with: ai-agents broker stop.")
@click.option("--dry-run", is_flag=True, help="Say what would start, and start nothing.")
@click.pass_obj
def start(settings: Settings, port: int | None, ephemeral: bool, heap_mb: int, fsync: bool, detach: bool, dry_run: bool) -> None:
    """Start Apache Kafka and stay until Ctrl-C.

    Its jars are fetched once, checked against their pinned SHA-256 and kept in the user's cache; later starts need no network.
    An ephemeral broker is not seen by `broker stop` and `broker status`.

    Example: ai-agents broker start --port 9092
    """
    if ephemeral and detach:
        raise click.UsageError("an ephemeral broker goes with its terminal; it cannot be detached")
    if dry_run:
        where = "a temporary folder" if ephemeral else settings.data_dir / "broker"
        say(f"dry run: would start Apache Kafka on 127.0.0.1:{port or '9092 or a free port'}, data in {where}, heap {heap_mb} MB")
        return
    from streams.broker.embedded import EmbeddedBroker

    kafka = EmbeddedBroker(settings.data_dir, port=port, ephemeral=ephemeral, heap_mb=heap_mb, fsync=fsync, outlive=detach, progress=say)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run(kafka, detach)
    except BrokerError as exc:
        raise command_error(exc) from exc
    except KeyboardInterrupt:
        say("stopping")
        kafka.stop()
        say("stopped")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(kafka: EmbeddedBroker, detach: bool) -> None:
    """Starts it and stays until its end, which is only good when somebody asked for it (`broker stop`)."""
    brokers = kafka.start()
    say(f"Kafka accepts connections on {brokers} (pid {kafka.pid}); data and log in {kafka.folder}")
    if brokers != Settings().brokers:
        say(f"other commands find it with --brokers {brokers} or AI_AGENTS_BROKERS={brokers}")
    if detach:
        return
    code, log_file = kafka.wait(), kafka.log_file
    kafka.stop()
    if code not in (0, 128 + signal.SIGTERM, -signal.SIGTERM):
        raise CommandError(f"the broker ended by itself with code {code}; see {log_file}")
    say("stopped")


@broker.command("stop")
@click.option("--dry-run", is_flag=True, help="Say what would be stopped, and stop nothing.")
@click.pass_obj
def stop(settings: Settings, dry_run: bool) -> None:
    """Stop the broker that runs in the data directory.

    Example: ai-agents broker stop
    """
    import psutil

    from streams.broker.embedded import read_info

    info = read_info(settings.data_dir)
    if info is None:
        raise CommandError(f"no broker runs in {settings.data_dir}", NOT_FOUND)
    if dry_run:
        say(f"dry run: would stop the broker on {info.brokers} (pid {info.pid})")
        return
    try:
        process = psutil.Process(info.pid)
        os.kill(info.pid, signal.SIGTERM)
        process.wait(_STOP_TIMEOUT_S)
    except (psutil.NoSuchProcess, ProcessLookupError):
        say("it had just ended")
    except psutil.TimeoutExpired as exc:
        raise CommandError(f"the broker (pid {info.pid}) did not stop within {_STOP_TIMEOUT_S:.0f} s; see {info.log_file}") from exc
    (settings.data_dir / "broker" / "broker.json").unlink(missing_ok=True)
    say(f"stopped the broker on {info.brokers} (pid {info.pid})")


@broker.command("status")
@output_option
@click.pass_obj
def status(settings: Settings, output: str) -> None:
    """Say whether a broker runs in the data directory, and where.

    Example: ai-agents broker status -o json
    """
    from streams.broker.embedded import read_info

    info = read_info(settings.data_dir)
    if info is None:
        raise CommandError(f"no broker runs in {settings.data_dir}; start one with: ai-agents broker start", NOT_FOUND)
    document({"brokers": info.brokers, "pid": info.pid, "data_dir": str(settings.data_dir / "broker"), "log": info.log_file}, output)
