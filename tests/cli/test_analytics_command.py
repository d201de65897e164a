"""`ai-agents analytics`, as a person calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from analytics.materializer import prepare
from analytics.open import open_store
from cli.analytics import analytics
from cli.main import cli
from tests.analytics.building import DEAD_LETTER, PROCESSED, a_dead_letter, a_processed, an_id


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    store = open_store(f"sqlite:///{tmp_path}/analytics.db")
    for topic, event in ((PROCESSED, a_processed()), (DEAD_LETTER, a_dead_letter(2))):
        store.assign(topic, 0)
        store.apply(prepare(topic, 0, [(0, event)], 1))
    store.close()
    return tmp_path


def run(data_dir: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--data-dir", str(data_dir), "analytics", *words])


def answered(data_dir: Path, *words: str) -> Any:
    result = run(data_dir, *words, "-o", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("command", sorted(analytics.commands))
def test_every_command_has_an_example(command: str) -> None:
    """Help without an example is half a help."""
    result = CliRunner().invoke(analytics, [command, "--help"])
    assert f"Example: ai-agents analytics {command}" in result.output


@pytest.mark.parametrize("command", ["methods", "costs", "throughput", "routing", "dead-letters", "freshness"])
@pytest.mark.parametrize("output", ["table", "json", "yaml", "csv"])
def test_reports_are_printed_in_every_format(data_dir: Path, command: str, output: str) -> None:
    """Rows to stdout, for people and for pipes."""
    since = [] if command == "freshness" else ["--since", "2026-10-01"]
    result = run(data_dir, command, *since, "-o", output)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()


def test_a_dead_letter_shows_where_the_original_lies(data_dir: Path) -> None:
    """So that it can be looked up, and later requeued."""
    (letter,) = answered(data_dir, "dead-letters", "--since", "2026-10-01")
    assert (letter["reason"], letter["origin_topic"], letter["origin_offset"]) == ("tool_refused", "tickets.routed.v1", 2)
    assert letter["failed_at"] == "2026-11-01T12:00:00.000Z"


def test_an_event_is_shown_with_its_calls_and_a_missing_one_is_exit_3(data_dir: Path) -> None:
    """The id is what the webhook's sender was answered."""
    (event,) = answered(data_dir, "event", an_id(1))
    assert (event["target_ticket_id"], [call["method"] for call in event["calls"]]) == ("OPS-1", ["create_ticket"])
    assert run(data_dir, "event", an_id(9)).exit_code == 3
    assert run(data_dir, "event", "x").exit_code == 2


def test_sql_answers_and_refuses(data_dir: Path) -> None:
    """Reads only; a mistake is a line, not a traceback."""
    assert answered(data_dir, "sql", "SELECT SUM(calls) AS calls FROM method_usage") == [{"calls": 1}]
    refused = run(data_dir, "sql", "DELETE FROM call_fact")
    assert refused.exit_code == 2
    assert "only SELECT" in refused.output


def test_a_store_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    """With what makes it."""
    result = run(tmp_path, "methods")
    assert result.exit_code == 1
    assert "does not exist yet" in result.output


def test_an_empty_range_is_a_usage_error(data_dir: Path) -> None:
    """Swapped times would answer nothing without saying why."""
    assert run(data_dir, "methods", "--since", "2026-11-02", "--until", "2026-11-01").exit_code == 2
    assert run(data_dir, "methods", "--since", "yesterday").exit_code == 2
