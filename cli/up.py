"""`ai-agents up`: broker, door, stages, in one terminal."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit, urlunsplit

import click

from cli.broker import command_error
from cli.output import FAILED, IN_USE, CommandError, refuse_shared_packages, say
from streams.broker.errors import BrokerError, PartitionMismatch
from streams.ports import free_port, is_listening, prefer
from streams.runtime import ProcessInfo, Runtime, read_runtime, write_runtime
from streams.settings import Settings
from streams.topics import DEFAULT_PARTITIONS

RETURN_S = 60.0
"""How long a broker of our own may take to come back while everything starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asks for. `own_broker`: start one, rather than use `settings.brokers`. A port 0 is chosen later."""

    settings: Settings
    own_broker: bool
    broker_port: int | None
    heap_mb: int
    fsync: bool
    log_level: str
    quiet: bool


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address the door listens on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port for webhooks [default: 8080, or a free one].")
@click.option("--admin-port", type=click.IntRange(1, 65535), help="Port for health and metrics [default: 8081, or a free one].")
@click.option("--broker-port", type=click.IntRange(1, 65535), help="Kafka's port [default: 9092, or a free one].")
@click.option("--ephemeral-ports", is_flag=True, help="Free ports for all that have none given: several sets beside each other.")
@click.option("--partitions", type=click.IntRange(1, 1000), default=DEFAULT_PARTITIONS, show_default=True, help="Fixed at first start.")
@click.option("--heap-mb", type=click.IntRange(min=192), default=512, show_default=True, help="Heap of Kafka's Java.")
@click.option("--fsync", is_flag=True, help="Kafka flushes each batch to disk: safe against power loss too, slower.")
@click.option(
    "--log-level",
    default="INFO",
    show_default=True,
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
    help="The least level that is logged, to stderr.",
)
@click.option("-q", "--quiet", is_flag=True, help="The children's lines go to their files only.")
@click.option("--dry-run", is_flag=True, help="Say what would start, and start nothing.")
@click.pass_context
def up(
    ctx: click.Context,
    host: str,
    port: int | None,
    admin_port: int | None,
    broker_port: int | None,
    ephemeral_ports: bool,
    partitions: int,
    heap_mb: int,
    fsync: bool,
    log_level: str,
    quiet: bool,
    dry_run: bool,
) -> None:
    """Run everything in one terminal, supervised, until Ctrl-C: a Kafka, the webhook door, route, process and materialize.

    With --brokers no Kafka is started. A child that crashes is started again, with a growing delay, and it is said. What the
    children print also goes to DATA_DIR/logs. Ctrl-C or SIGTERM stops all within 10 s; a second Ctrl-C at once.

    Example: ai-agents up --port 8080
    """
    settings: Settings = ctx.obj
    _check(settings, {"--port": port, "--admin-port": admin_port, "--broker-port": broker_port})
    given = ctx.find_root().params.get("brokers")
    running = _running_broker(settings) if not given else None
    settings = replace(
        settings,
        host=host,
        port=port or (0 if ephemeral_ports else prefer(8080)),
        admin_port=admin_port or (0 if ephemeral_ports else prefer(8081)),
        brokers=given or running or "",
        partitions=partitions,
    )
    if ephemeral_ports and broker_port is None:
        broker_port = free_port()
    wanted = Wanted(
        settings=settings,
        own_broker=not settings.brokers,
        broker_port=broker_port,
        heap_mb=heap_mb,
        fsync=fsync,
        log_level=log_level,
        quiet=quiet,
    )
    if dry_run:
        kafka = settings.brokers or f"a Kafka of its own on 127.0.0.1:{broker_port or '9092 or a free port'}"
        say(f"dry run: would use {kafka}, and start ingestion on {host}:{settings.port or 'a free port'}, route, process, materialize")
        say(f"data in {settings.data_dir}, tables in {_without_password(settings.store_url)}")
        return
    _run(wanted)


def _check(settings: Settings, ports: dict[str, int | None]) -> None:
    """What must hold before anything starts."""
    refuse_shared_packages()
    if (other := read_runtime(settings.data_dir)) is not None:
        raise CommandError(f"`up` already runs in {settings.data_dir} (pid {other.supervisor_pid}); see: ai-agents status", IN_USE)
    for option, port in ports.items():
        if port is not None and is_listening(port):
            raise CommandError(f"port {port} is taken; stop what listens there or choose another with {option}", IN_USE)


def _running_broker(settings: Settings) -> str | None:
    """The broker that `broker start` runs in this data directory."""
    from streams.broker.embedded import read_info

    info = read_info(settings.data_dir)
    return info.brokers if info is not None else None


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))


def _run(wanted: Wanted) -> None:
    from streams.supervisor import ChildFailed, print_own, until_signalled

    try:
        wanted.settings.data_dir.mkdir(parents=True, exist_ok=True)
        asyncio.run(until_signalled(lambda stop: _supervise(wanted, stop)))
    except ChildFailed as exc:
        if isinstance(exc.__cause__, BrokerError):
            raise command_error(exc.__cause__) from exc
        raise CommandError(str(exc), exc.code if exc.code is not None and exc.code > 0 else FAILED) from exc
    except BrokerError as exc:
        raise command_error(exc) from exc
    except OSError as exc:
        raise CommandError(f"cannot use {wanted.settings.data_dir} ({exc.strerror}); choose another --data-dir") from exc
    finally:
        _forget_runtime(wanted.settings)
    print_own("stopped")


async def _supervise(wanted: Wanted, stop: asyncio.Event) -> None:
    from streams.supervisor import Supervisor, print_own, run_until

    settings = wanted.settings

    def changed(processes: list[ProcessInfo]) -> None:
        write_runtime(settings.data_dir, _runtime(settings, processes))

    def found(now: Settings) -> None:
        nonlocal settings
        settings = now
        changed(supervisor.processes)

    supervisor = Supervisor(print_own, changed)
    await run_until(stop, _bring_up(wanted, supervisor.start, found), supervisor)


async def _bring_up(wanted: Wanted, start: Callable[..., Awaitable[None]], found: Callable[[Settings], None]) -> None:
    """Broker, topics and schemas, then everything else at the same time."""
    from streams.own_children import door_child, stage_child
    from streams.supervisor import print_line, print_own

    settings = wanted.settings
    if wanted.own_broker:
        settings = replace(settings, brokers=await _start_broker(wanted, start))
    found(settings)
    await _prepare_topics(settings, RETURN_S if wanted.own_broker else 0.0)
    # free ports are chosen last: what is free now may be taken by the time a broker has started
    settings = replace(settings, port=settings.port or free_port(), admin_port=settings.admin_port or free_port())
    found(settings)
    echo = None if wanted.quiet else print_line
    level = ("--log-level", wanted.log_level)
    await start(
        door_child(settings, *level, host=settings.host, port=settings.port, admin_port=settings.admin_port, echo=echo),
        stage_child(settings, "route", "worker", "--stage", "route", *level, echo=echo),
        stage_child(settings, "process", "worker", "--stage", "process", *level, echo=echo),
        stage_child(settings, "materialize", "materialize", *level, echo=echo),
    )
    print_own(f"webhooks on http://{settings.host}:{settings.port}/webhooks/TENANT/TOOL")
    print_own(f"health on http://127.0.0.1:{settings.admin_port}/health, Kafka on {settings.brokers}, data in {settings.data_dir}")
    print_own("Ctrl-C stops everything")


async def _start_broker(wanted: Wanted, start: Callable[..., Awaitable[None]]) -> str:
    from streams.broker.embedded import EmbeddedBroker
    from streams.child_processes import BrokerChild
    from streams.supervisor import ChildFailed, print_own

    kafka = EmbeddedBroker(
        wanted.settings.data_dir, port=wanted.broker_port, heap_mb=wanted.heap_mb, fsync=wanted.fsync, progress=print_own
    )
    child = BrokerChild(kafka)
    try:
        await start(child)
    except ChildFailed as exc:
        raise exc from child.error
    return kafka.brokers


async def _prepare_topics(settings: Settings, patience: float) -> None:
    """Makes what is missing of the topics and publishes the schemas; both are idempotent.

    A broker of our own that dies meanwhile is brought back by the supervisor: tried again for `patience` seconds.
    """
    from aiokafka.errors import KafkaError

    from streams.broker.admin import ensure_topics
    from streams.supervisor import print_own

    give_up = time.monotonic() + patience
    while True:
        try:
            if made := await ensure_topics(settings.brokers, settings.partitions, settings.security):
                print_own(f"{len(made)} topics made, {settings.partitions} partitions for each that carries tickets")
            await _publish_schemas(settings)
        except PartitionMismatch:
            raise
        except (BrokerError, KafkaError) as exc:
            if time.monotonic() > give_up:
                raise exc if isinstance(exc, BrokerError) else BrokerError(f"Kafka at {settings.brokers}: {type(exc).__name__}") from exc
            await asyncio.sleep(0.5)
        else:
            return


async def _publish_schemas(settings: Settings) -> None:
    from schemas.codec import Codec
    from streams.control import publish_schemas
    from streams.producer import StageProducer

    producer = StageProducer(settings.brokers, settings.security)
    try:
        await producer.start()
        await publish_schemas(producer, Codec())
    finally:
        await producer.stop()


def _runtime(settings: Settings, processes: list[ProcessInfo]) -> Runtime:
    host = settings.host if settings.host != "0.0.0.0" else "127.0.0.1"  # noqa: S104 - compared
    return Runtime(
        ingestion_url=f"http://{host}:{settings.port}" if settings.port else "",
        admin_url=f"http://127.0.0.1:{settings.admin_port}" if settings.admin_port else "",
        brokers=settings.brokers,
        store=_without_password(settings.store_url),
        data_dir=str(settings.data_dir),
        supervisor_pid=os.getpid(),
        processes=processes,
    )


def _forget_runtime(settings: Settings) -> None:
    """Nothing runs here any more; a file of somebody else's stays."""
    runtime = read_runtime(settings.data_dir)
    if runtime is not None and runtime.supervisor_pid == os.getpid():
        settings.runtime_file.unlink(missing_ok=True)
