"""`ai-agents serve`: the webhook door."""

from __future__ import annotations

import logging
from dataclasses import replace

import click

from cli.output import FAILED, IN_USE, CommandError, refuse_shared_packages, say
from streams.settings import Settings


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port for webhooks; 0 lets the system choose.")
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    default=8081,
    show_default=True,
    help="Port for /health, /ready and /metrics; 0 likewise.",
)
@click.option("--instance", default="0", show_default=True, help="Names this door among several of one data directory.")
@click.option("--spool-max-mb", type=click.IntRange(1), default=1024, show_default=True, help="Bound of the spool on disk, in MiB.")
@click.option(
    "--log-level",
    default="INFO",
    show_default=True,
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
    help="The least level that is logged, to stderr.",
)
@click.pass_obj
def serve(settings: Settings, host: str, port: int, admin_port: int, instance: str, spool_max_mb: int, log_level: str) -> None:
    """Run the door that takes webhooks: verify, make durable, answer 202.

    It opens at once, also while the broker is away: events then go to a spool on disk. Ctrl-C or SIGTERM stops it within 7 s.

    Example: ai-agents --brokers 127.0.0.1:9092 serve --port 8080
    """
    refuse_shared_packages()
    import uvloop

    from streams.ingestion import server
    from streams.ingestion.spool import SpoolInUse

    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it reports every retry; ours says once that the broker is away
    chosen = replace(settings, host=host, port=port, admin_port=admin_port, instance=instance, spool_max_bytes=spool_max_mb << 20)

    def announce(url: str, admin_url: str) -> None:
        say(f"webhooks on {url}/webhooks/TENANT/TOOL, health on {admin_url}/health")

    try:
        uvloop.run(server.serve(chosen, announce))
    except (server.PortTaken, SpoolInUse) as exc:
        raise CommandError(str(exc), IN_USE) from exc
    except (OSError, RuntimeError) as exc:
        raise CommandError(f"the door had to stop: {exc}; what was accepted is on the topic or in its spool", FAILED) from exc
