"""compose.yaml against the code: no Docker engine is needed to see that it names options and settings that exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from cli.main import cli
from streams.broker.jars import KAFKA_VERSION
from streams.broker.properties import server_properties

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.mark.parametrize("service", ["setup", "ingestion", "worker", "materialize"])
def test_its_commands_exist_with_their_options(service: str) -> None:
    """A renamed option would be found out by the first who deploys."""
    words = SERVICES[service]["command"]
    if words[0] == "sh":
        words = words[2].removeprefix("exec ").replace('"', "").split()
    assert words.pop(0) == "ai-agents"
    command: click.Command = cli
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_its_kafka_is_the_one_we_test_with() -> None:
    """The embedded broker and the container must not drift apart in version or in the size of a record."""
    kafka = SERVICES["kafka"]
    assert kafka["image"] == f"apache/kafka:{KAFKA_VERSION}"
    ours = server_properties(log_dir=Path("log"), port=1, controller_port=2, fsync=False)
    assert f"message.max.bytes={kafka['environment']['KAFKA_MESSAGE_MAX_BYTES']}\n" in ours


def test_what_must_survive_is_on_volumes() -> None:
    """Kafka's log, the door's spool and the tables are data; everything else is rebuilt from topics."""
    mounted = {v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", ())}
    assert set(COMPOSE["volumes"]) <= mounted


def test_the_image_takes_every_package_and_nothing_else() -> None:
    """A package missing from the image fails at its first import, in production."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for package in ("streams", "plugins", "schemas", "analytics", "cli"):
        assert f"COPY {package} {package}\n" in dockerfile
        assert f"!{package}" in ignored
