"""What every sandbox does: it fails on demand, remembers every effect, tells of every write, and never undoes a late success."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from plugins.sandbox.http import HttpServer, Request, Response, json_response, route
from plugins.sandbox.process import SandboxFailed, SandboxProcess
from plugins.sandbox.server import Actor, Sandbox, now
from plugins.sandbox.webhooks import RetryPolicy


class DeskSandbox(Sandbox):
    """A tool of one call: POST /tickets."""

    tool_type = "desk"
    retry_policy = RetryPolicy(on_status=frozenset({500}), needs_retry_after=frozenset({429}), delays=(0.01, 0.01, 0.01))
    retry_header = "X-Retry"
    credentials: Mapping[str, Any] = {}
    webhook: Mapping[str, Any] = {}

    def actor_of(self, request: Request) -> Actor | None:
        return {"k": Actor("1", False), "p": Actor("2", True)}.get(request.headers.get("key", ""))

    def refusal(self, status: int, request: Request) -> Response:
        return json_response({"error": status}, status)

    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        return "1"

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        return ticket_id == "1"

    def sign(self, body: bytes) -> Mapping[str, str]:
        return {"X-Signed": str(len(body))}

    @route("POST", "/tickets")
    def create(self, request: Request) -> Response:
        number = self.next_id("ticket")
        self.journal.table("tickets").put(str(number), {"at": now()})
        self.ledger.write("create", str(number), request, external_id=request.query.get("x"))
        self.fire({"ticket": number})
        return json_response({"id": number}, 201)

    @route("GET", "/tickets/{id}")
    def show(self, request: Request) -> Response:
        ticket = self.journal.table("tickets").get(request.params["id"])
        return json_response(ticket) if ticket and self.indexed(ticket["at"]) else self.refusal(404, request)

    @route("GET", "/broken")
    def broken(self, request: Request) -> Response:
        raise ValueError("a slip in the sandbox")


@pytest.fixture
async def desk() -> AsyncIterator[DeskSandbox]:
    sandbox = DeskSandbox()
    await sandbox.start()
    yield sandbox
    await sandbox.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"key": "k"}) as session:
        yield session


class Target:
    """Receives webhooks; answers what a test chooses."""

    def __init__(self, *answers: Response) -> None:
        self.answers, self.got = list(answers), asyncio.Queue[Request]()

    async def __call__(self, request: Request) -> Response:
        self.got.put_nowait(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def armed(http: aiohttp.ClientSession, desk: Sandbox, **fault: Any) -> None:
    async with http.post(desk.base_url + "/_faults", json=fault) as answer:
        assert answer.status == 200


async def test_a_status_fault_turns_the_next_calls_away_without_an_effect(desk: DeskSandbox, http: aiohttp.ClientSession) -> None:
    """The example of the contract: {"status": 429, "retry_after": 1, "times": 1}."""
    await armed(http, desk, status=429, retry_after=1, times=1)
    async with http.post(desk.base_url + "/tickets") as answer:
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert desk.ledger.rows() == []
    async with http.post(desk.base_url + "/tickets") as answer:
        assert answer.status == 201


async def test_a_status_after_the_effect_is_a_success_nobody_heard_of(desk: DeskSandbox, http: aiohttp.ClientSession) -> None:
    """A gateway's 502 over a tool that did the work."""
    await armed(http, desk, status=502, when="after")
    async with http.post(desk.base_url + "/tickets") as answer:
        assert answer.status == 502
    assert len(desk.ledger.rows()) == 1


@pytest.mark.parametrize(("fault", "effects"), [({"reset": True}, 1), ({"reset": True, "when": "before"}, 0), ({"half_body": True}, 1)])
async def test_a_broken_answer_leaves_its_effect(
    desk: DeskSandbox, http: aiohttp.ClientSession, fault: dict[str, Any], effects: int
) -> None:
    """What makes an event doubtful."""
    await armed(http, desk, **fault)
    with pytest.raises(aiohttp.ClientError):
        async with http.post(desk.base_url + "/tickets") as answer:
            await answer.read()
    assert len(desk.ledger.rows()) == effects


async def test_a_request_whose_client_has_gone_is_carried_out(desk: DeskSandbox, http: aiohttp.ClientSession) -> None:
    """A killed worker's last request still arrives: the late success that effects-once must survive."""
    target = Target(Response(200))
    server = HttpServer(target)
    desk.keys.put("webhook_url", f"http://127.0.0.1:{await server.start()}/hook")
    await armed(http, desk, delay=0.05)
    port = int(desk.base_url.rpartition(":")[2])
    raw = socket.create_connection(("127.0.0.1", port))
    raw.sendall(b"POST /tickets?x=late HTTP/1.1\r\nhost: x\r\nkey: k\r\ncontent-length: 0\r\n\r\n")
    raw.close()
    await asyncio.wait_for(target.got.get(), 5)
    assert [row["external_id"] for row in desk.ledger.rows()] == ["late"]
    await server.stop()


async def test_faults_may_name_a_method_and_a_path_and_spare_people(desk: DeskSandbox, http: aiohttp.ClientSession) -> None:
    """A demo's customers go on working while our calls fail."""
    await armed(http, desk, status=500, method="POST", path="/tickets", times=2)
    async with http.get(desk.base_url + "/tickets/9") as answer:
        assert answer.status == 404
    async with http.post(desk.base_url + "/tickets", headers={"key": "p"}) as answer:
        assert answer.status == 201
    async with http.post(desk.base_url + "/tickets") as answer:
        assert answer.status == 500
    async with http.get(desk.base_url + "/_faults") as answer:
        assert (await answer.json())[0]["times"] == 1
    async with http.delete(desk.base_url + "/_faults") as answer:
        assert await answer.json() == []


async def test_what_is_no_fault_is_refused(desk: DeskSandbox, http: aiohttp.ClientSession) -> None:
    """A misspelt fault would make a test pass for the wrong reason."""
    for body in (b"{", b'{"stauts": 500}', b'{"status": "x"}'):
        async with http.post(desk.base_url + "/_faults", data=body) as answer:
            assert answer.status == 400


async def test_index_lag_hides_a_write_for_its_time(desk: DeskSandbox, http: aiohttp.ClientSession) -> None:
    """Real tools find a ticket seconds after making it."""
    await armed(http, desk, index_lag=3600)
    async with http.post(desk.base_url + "/tickets") as answer:
        number = (await answer.json())["id"]
    async with http.get(f"{desk.base_url}/tickets/{number}") as answer:
        assert answer.status == 404
    await armed(http, desk, index_lag=0)
    async with http.get(f"{desk.base_url}/tickets/{number}") as answer:
        assert answer.status == 200


async def test_wrong_credentials_unknown_paths_and_slips_are_answers(desk: DeskSandbox, http: aiohttp.ClientSession) -> None:
    """A sandbox that hangs would look like a tool that hangs."""
    for method, path, key, status in [
        ("POST", "/tickets", "wrong", 401),
        ("GET", "/nothing", "k", 404),
        ("PUT", "/tickets", "k", 405),
        ("GET", "/broken", "k", 500),
        ("GET", "/_nothing", "k", 404),
        ("PUT", "/_people/tickets/7", "k", 404),
        ("PUT", "/_people/tickets/1", "k", 200),
        ("POST", "/_people/tickets", "k", 201),
    ]:
        async with http.request(method, desk.base_url + path, headers={"key": key}) as answer:
            assert (answer.status, method, path) == (status, method, path)


async def test_each_write_is_told_and_told_again_as_the_tool_would(desk: DeskSandbox, http: aiohttp.ClientSession) -> None:
    """Only what the tool retries is retried, and the retry says so."""
    target = Target(Response(500), Response(429, b"", {"retry-after": "0"}), Response(429), Response(200))
    server = HttpServer(target)
    async with http.post(desk.base_url + "/_webhook", json={"url": f"http://127.0.0.1:{await server.start()}/hook"}) as answer:
        assert answer.status == 200
    await http.post(desk.base_url + "/tickets")
    got = [await asyncio.wait_for(target.got.get(), 5) for _ in range(3)]
    assert [g.headers.get("x-retry") for g in got] == [None, "1", "2"]
    assert got[0].headers["x-signed"] == str(len(got[0].body))
    assert json.loads(got[0].body) == {"ticket": 1}
    await http.post(desk.base_url + "/tickets")  # the 429 without Retry-After ended the first; this is a new one
    assert json.loads((await asyncio.wait_for(target.got.get(), 5)).body) == {"ticket": 2}
    async with http.get(desk.base_url + "/_health") as answer:
        counts = (await answer.json())["webhooks"]
    assert counts["failed"] == 1
    await server.stop()


async def test_state_survives_a_kill_and_a_torn_line(tmp_path: Path) -> None:
    """Chaos kills tools too; an answered write must be there after it."""
    state = tmp_path / "desk.jsonl"
    first = DeskSandbox(state=state)
    secret = first.secret("token")
    first.ledger.write("create", "1", Request("POST", "/tickets"))
    first.journal.table("tickets").put("1", {"at": 0})
    first.next_id("ticket")
    first.journal.close()
    with state.open("ab") as file:
        file.write(b'["tickets","2",{"at"')
    again = DeskSandbox(state=state)
    assert again.secret("token") == secret
    assert [row["ticket_id"] for row in again.ledger.rows()] == ["1"]
    assert list(again.journal.table("tickets")) == ["1"]
    assert again.next_id("ticket") == 2
    again.journal.close()
    third = DeskSandbox(state=state)
    assert third.next_id("ticket") == 3
    third.journal.close()


def test_a_sandbox_process_starts_keeps_its_state_over_a_kill_and_ends(tmp_path: Path) -> None:
    """What the demo, the chaos test and a person at the command line do."""
    state = tmp_path / "zendesk.jsonl"
    with SandboxProcess("zendesk", state=state) as sandbox:
        ticket = sandbox.person_creates(subject="hello", priority="high")
        credentials, port = sandbox.credentials, int(sandbox.base_url.rpartition(":")[2])
        sandbox.kill()
    with SandboxProcess("zendesk", state=state, port=port) as sandbox:
        assert sandbox.credentials == credentials
        assert [row["ticket_id"] for row in sandbox.ledger()] == [ticket]
        assert sandbox.ledger(after=1) == []
        with pytest.raises(SandboxFailed, match="404"):
            sandbox.person_updates("999", priority="low")
        with pytest.raises(SandboxFailed), SandboxProcess("zendesk", port=port):
            pass
    with pytest.raises(SandboxFailed), SandboxProcess("no such tool"):
        pass


def test_a_sandbox_ends_when_its_parent_is_killed() -> None:
    """A killed test run or demo must leave nothing behind that holds a port."""
    program = (
        "import sys\nfrom plugins.sandbox.process import SandboxProcess\n"
        "print(SandboxProcess('zendesk').start().base_url, flush=True)\nsys.stdin.read()\n"
    )
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline().strip().rpartition(b":")[2])
        watching = socket.create_connection(("127.0.0.1", port), timeout=10)
        parent.kill()
        parent.wait()
        assert watching.recv(1) == b""  # the other end has gone
        watching.close()
