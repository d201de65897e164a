"""`plugin call`: a person calls one method of a tool, against a sandbox in its own process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from cli.main import cli
from cli.output import CommandError
from cli.plugin_arguments import arguments, parse_words, plain, usage, whole_ticket
from plugins.api import BatchResult, NewNote, NewTicket, NotFound, Priority, TicketChanges, TicketMetadata
from plugins.sandbox.process import SandboxProcess

TOKEN = "AI_AGENTS_SECRET_ACME__ZENDESK_TOKEN"


@dataclass
class Desk:
    """A tenant's file whose tool `desk` is a Zendesk sandbox, and the secret it refers to."""

    file: Path
    sandbox: SandboxProcess
    token: str

    def call(self, *words: str, token: str | None = None, data_dir: Path | None = None) -> Result:
        environment = {TOKEN: self.token if token is None else token}
        return CliRunner().invoke(cli, ["plugin", "call", "desk", *words, "--config", str(self.file)], env=environment)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with SandboxProcess("zendesk") as sandbox:
        auth = dict(sandbox.credentials["auth"])
        token, auth["api_token"] = auth["api_token"], "${secret:zendesk_token}"
        tenant = {"tenant": "acme", "tools": {"desk": {"type": "zendesk", "base_url": sandbox.base_url, "auth": auth}}}
        file = tmp_path_factory.mktemp("call") / "acme.yaml"
        file.write_text(yaml.safe_dump(tenant))
        yield Desk(file, sandbox, token)


def test_a_ticket_is_created_read_and_noted_from_the_command_line(desk: Desk) -> None:
    """Fields are given as words; what makes the write findable is made up."""
    created = desk.call("create_ticket", "subject=Printer on fire", "priority=urgent", 'tags:=["hall"]', "-o", "json")
    assert created.exit_code == 0, created.output
    ticket_id = json.loads(created.stdout)["ticket_id"]
    assert "create_ticket: 1 api call, " in created.stderr
    shown = json.loads(desk.call("get_ticket", f"ticket_id={ticket_id}", "-o", "json").stdout)
    assert (shown["subject"], shown["priority"]) == ("Printer on fire", "urgent")
    assert desk.call("add_note", f"ticket_id={ticket_id}", "text=Toner").exit_code == 0
    assert [entry["kind"] for entry in desk.sandbox.ledger()][-2:] == ["create", "note"]
    batch = desk.call("get_ticket_batch", f'ticket_ids:=["{ticket_id}", "99999999"]', "-o", "json")
    found = {row["ticket_id"]: row for row in json.loads(batch.stdout)}
    assert found["99999999"]["error"]["error"] == "NotFound"


def test_a_file_goes_up_and_comes_down_as_it_is(desk: Desk, tmp_path: Path) -> None:
    """Bytes, not their repr."""
    ticket_id = json.loads(desk.call("create_ticket", "subject=With a photo", "-o", "json").stdout)["ticket_id"]
    photo = tmp_path / "photo.png"
    photo.write_bytes(bytes(range(256)) * 1000)
    given = ["filename=photo.png", "content_type=image/png", f"content=@{photo}", "-o", "json"]
    added = desk.call("add_attachment", f"ticket_id={ticket_id}", *given)
    assert added.exit_code == 0, added.output
    (listed,) = json.loads(desk.call("list_attachments", f"ticket_id={ticket_id}", "-o", "json").stdout)
    copy = tmp_path / "copy.png"
    got = desk.call("download_attachment", f"ticket_id={ticket_id}", f"attachment_id={listed['attachment_id']}", "--to", str(copy))
    assert got.exit_code == 0, got.output
    assert copy.read_bytes() == photo.read_bytes()


def test_a_dry_run_shows_the_call_and_makes_none(desk: Desk) -> None:
    """And shows no secret."""
    before = len(desk.sandbox.ledger())
    shown = desk.call("create_ticket", "subject=Nothing", "--dry-run", "-o", "json", token="hush-hush")
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["arguments"]["ticket"]["subject"] == "Nothing"
    assert "hush-hush" not in shown.output
    assert len(desk.sandbox.ledger()) == before


@pytest.mark.parametrize(
    ("words", "token", "code", "told"),
    [
        (["get_ticket", "ticket_id=99999999"], None, 3, "NotFound: GET"),
        (["get_ticket", "ticket_id=1"], "wrong", 1, "renew the tool's credentials"),
        (["get_ticket", "ticket_id=1"], "", 1, "run: ai-agents secret set acme/zendesk_token"),
        (["get_ticket"], None, 2, "ticket_id must be given; it takes: ticket_id"),
        (["get_ticket", "ticket_id=1", "colour=red"], None, 2, "there is no argument colour"),
        (["create_ticket", "subject=x", "priority=purple"], None, 2, "ticket: "),
        (["aclose"], None, 3, "has no method aclose; it has: get_ticket"),
        (["get_ticket", "nonsense"], None, 2, "NAME=VALUE"),
    ],
)
def test_each_mistake_is_one_line_with_its_remedy(desk: Desk, words: list[str], token: str | None, code: int, told: str) -> None:
    """By exit code for scripts, by the line for people; no traceback."""
    result = desk.call(*words, token=token)
    assert (result.exit_code, told in result.output) == (code, True), result.output
    assert "Traceback" not in result.output


def test_a_tool_s_settings_may_stand_alone(desk: Desk, tmp_path: Path) -> None:
    """For whoever only wants to try a tool."""
    settings = tmp_path / "settings.yaml"
    auth = desk.sandbox.credentials["auth"]
    settings.write_text(yaml.safe_dump({"type": "zendesk", "base_url": desk.sandbox.base_url, "auth": auth}))
    result = CliRunner().invoke(cli, ["plugin", "call", "any", "health_check", "--config", str(settings), "-o", "json"])
    assert json.loads(result.stdout)["ok"] is True
    assert CliRunner().invoke(cli, ["plugin", "call", "any", "health_check"]).exit_code == 2


async def update(ticket_id: str, changes: TicketChanges) -> None: ...
async def create(ticket: NewTicket, *, notify: bool = False, limit: int = 10) -> None: ...
async def note(ticket_id: str, note: NewNote) -> None: ...
async def many(changes: Mapping[str, TicketChanges]) -> None: ...
async def devices(ticket: TicketMetadata) -> None: ...
async def upload(content: AsyncIterator[bytes]) -> None: ...


def test_words_become_what_the_method_wants() -> None:
    """By its own annotations, so each plugin's own methods can be called too."""
    made = arguments(update, parse_words(["ticket-id=7", "priority=high"]))
    assert (made["ticket_id"], made["changes"].priority, bool(made["changes"].event_id)) == ("7", Priority.HIGH, True)
    made = arguments(create, parse_words(["subject=a=b", "notify=true", "limit=3", 'custom_fields:={"x": 1}']))
    assert (made["ticket"].subject, made["notify"], made["limit"], made["ticket"].custom_fields) == ("a=b", True, 3, {"x": 1})
    assert made["ticket"].external_id.startswith("cli-")
    assert arguments(note, parse_words(["ticket_id=7", 'note:={"text": "x", "public": true}']))["note"].public
    assert arguments(many, parse_words(['changes:={"7": {"status": "open", "event_id": "e"}}']))["changes"]["7"].event_id == "e"
    assert usage(update) == "ticket_id [event_id] [subject] [priority] [status] [type] [custom_fields]"
    assert whole_ticket(devices, {"ticket_id": "7"}) == "ticket"
    assert whole_ticket(update, {"ticket_id": "7"}) is None


@pytest.mark.parametrize(
    ("method", "words", "told"),
    [
        (update, ["ticket_id=7", "ticket_id=8"], "given twice"),
        (update, ["ticket_id:=["], "wants JSON"),
        (update, ["ticket_id=7", "changes=x"], "changes: "),
        (upload, ["content=text"], "content=@FILE"),
        (upload, ["content=@/no/such/file"], "there is no file"),
        (create, [], "subject"),
    ],
)
def test_words_that_fit_no_method_are_told(method: Any, words: list[str], told: str) -> None:
    """Before anything is called."""
    with pytest.raises(CommandError, match=told):
        arguments(method, parse_words(words))


def test_answers_are_plain_values() -> None:
    """Whatever a plugin answers with can be written as JSON."""
    result = BatchResult("7", error=NotFound("gone", status=404))
    assert plain([result])[0]["error"] == {"error": "NotFound", "message": "gone", "status": 404, "in_doubt": False}
    assert plain(TicketMetadata(tenant_id="acme", ticket_id="7"))["custom_fields"] == {}
