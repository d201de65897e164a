"""The kit's own parts: the proxy and its faults, the card, the checks' names."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from plugins.api import PluginConfigError, Priority, TicketStatus, TicketType
from plugins.conformance import bodies
from plugins.conformance.check import FAMILIES, Check, CheckFailed, NotApplicable, all_checks, check
from plugins.conformance.checks.parsing import TookTooLong, bounded
from plugins.conformance.proxy import FaultProxy, Kind, ProxyFault
from plugins.conformance.report import card, junit, level_of
from plugins.conformance.run import Outcome, Result, chosen, outcome_of, run
from plugins.conformance.scaffold import written
from plugins.conformance.stand import Stand, sandbox_of
from plugins.conformance.subject import Subject
from plugins.manifest import Conformance, Setting
from plugins.sandbox.http import HttpServer, Request, Response, json_response
from plugins.sandbox.server import SandboxProcess

TEMPLATE = Subject.at(Path(__file__).parents[3] / "plugins" / "conformance" / "template")


# checks -----------------------------------------------------------------------------------------------------------------


def test_there_are_at_least_forty_checks_each_with_its_name_and_one_sentence() -> None:
    """Names are kept in reports and certificates; the sentence is what an author reads when one fails."""
    checks = all_checks()
    assert len(checks) >= 40 and {c.family for c in checks} == set(FAMILIES)
    for found in checks:
        assert re.fullmatch(r"[a-z]+\.[a-z0-9_]+", found.name)
        assert found.why.endswith(".") and len(found.why) > 40 and not found.why[0].islower()


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="taken"):
        check("calls.create", "Again.")(lambda stand: asyncio.sleep(0))
    with pytest.raises(ValueError, match="family"):
        check("manners.greets", "Of no family.")(lambda stand: asyncio.sleep(0))


def test_families_and_checks_are_chosen_by_name() -> None:
    assert {c.family for c in chosen(["batch", "metering"])} == {"batch", "metering"}
    assert [c.name for c in chosen(["calls.create"])] == ["calls.create"]
    with pytest.raises(PluginConfigError, match="manners"):
        chosen(["manners"])


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with sandbox_of(TEMPLATE) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("raised", "result", "detail"),
    [
        (None, "passed", ""),
        (CheckFailed("seen this"), "failed", "seen this"),
        (NotApplicable("the manifest says so"), "not applicable", "the manifest says so"),
        (KeyError("event"), "failed", "KeyError: 'event'"),
    ],
)
async def test_whatever_a_check_does_becomes_an_outcome(
    sandbox: SandboxProcess, raised: Exception | None, result: str, detail: str
) -> None:
    """One check that breaks must not end the run of the others, and none is skipped in silence."""

    async def body(stand: Stand) -> None:
        if raised is not None:
            raise raised

    outcome = await outcome_of(Check("calls.made_up", "For this test.", body), TEMPLATE, sandbox)
    assert (outcome.result, outcome.detail) == (result, detail)


def outcome(name: str, result: Result, detail: str = "") -> Outcome:
    return Outcome(check=name, result=result, detail=detail, why="w", docs="d")


def test_the_level_is_earned_by_what_passed() -> None:
    """What is trusted with deliveries must be whole where deliveries are concerned."""
    whole = [outcome(f"{family}.x", "passed") for family in FAMILIES]
    assert level_of(whole) == "certified"
    assert level_of([*whole, outcome("batch.y", "failed")]) == "verified"
    assert level_of([*whole, outcome("verification.y", "failed")]) == "listed"
    assert level_of(whole[:3]) == "partial"


def test_a_card_counts_and_its_xml_takes_any_text() -> None:
    """A plugin's error may hold anything, and a build server reads XML only."""
    made = card(TEMPLATE.manifest, [outcome("calls.x", "failed", "\x00<&\udc80"), outcome("calls.y", "not applicable", "no")])
    assert (made.failed, made.not_applicable, made.families[0].family) == (1, 1, "calls")
    xml = junit([made])
    assert "&lt;&amp;" in xml and "<skipped" in xml and "\x00" not in xml


# what the manifest tells -----------------------------------------------------------------------------------------------


def test_a_tool_that_has_fewer_words_is_asked_for_those_it_has(sandbox: SandboxProcess) -> None:
    """A tool without types, urgency or a word for resolved keeps its promises all the same, and says which words it has."""
    told = Conformance(types=(), priorities=(Priority.MEDIUM, Priority.HIGH), statuses=(TicketStatus.OPEN, TicketStatus.CLOSED))
    stand = Stand(with_manifest(conformance=told), sandbox)
    assert (stand.first_type, stand.done) == (TicketType.UNKNOWN, TicketStatus.CLOSED)
    assert [stand.priority(p) for p in (Priority.LOW, Priority.HIGH, Priority.URGENT)] == [Priority.MEDIUM, Priority.HIGH, Priority.HIGH]
    assert stand.a_ticket().type is TicketType.UNKNOWN


def test_a_tool_without_a_bulk_call_is_not_asked_to_be_quick(sandbox: SandboxProcess) -> None:
    """The base class goes one by one, and that is a sound batch where the tool has no better."""
    subject = with_manifest(methods=[name for name in TEMPLATE.manifest.methods if "batch" not in name])
    found = run(subject, chosen(["batch.quicker_than_one_by_one", "batch.nothing"]), sandbox=sandbox)
    assert sorted(o.result for o in found) == ["not applicable", "passed"]


def test_a_required_setting_nobody_tells_is_one_error_and_not_fifty(sandbox: SandboxProcess) -> None:
    """Who has just made a setting required reads what to do, before any check has failed of it."""
    subject = with_manifest(settings={**TEMPLATE.manifest.settings, "group": Setting(doc="where tickets go", required=True)})
    with pytest.raises(PluginConfigError, match=r"requires group.*\[plugin\.conformance\.settings\]"):
        run(subject, chosen(["calls.create"]), sandbox=sandbox)


def with_manifest(**fields: Any) -> Subject:
    """The sound plugin with another manifest."""
    return Subject(msgspec.structs.replace(TEMPLATE.manifest, **fields), TEMPLATE.folder, TEMPLATE.root)


# the plugin's folder ----------------------------------------------------------------------------------------------------


def test_a_plugin_is_found_by_name_by_folder_and_by_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare word is an installed plugin first, and a folder here where there is none of that name."""
    written("harbour_desk", tmp_path)
    (tmp_path / "jira").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Subject.find("jira").folder.parent.name == "plugins"
    assert Subject.find("harbour_desk").folder == tmp_path / "harbour_desk" / "harbour_desk"
    assert Subject.find(str(TEMPLATE.folder)).manifest.tool_type == "example_desk"
    with pytest.raises(PluginConfigError, match=r"no plugin\.toml"):
        Subject.find(f"{tmp_path / 'jira'}")


def test_a_broken_expected_yaml_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "fixtures"
    folder.mkdir()
    (folder / "expected.yaml").write_text("- a list")
    with pytest.raises(PluginConfigError, match="mapping"):
        _ = Subject(TEMPLATE.manifest, tmp_path, tmp_path).fixtures


# bodies -----------------------------------------------------------------------------------------------------------------


def test_a_document_is_spoilt_at_one_place_and_left_as_it_was() -> None:
    """Thousands of bodies are made of one fixture: a change that stayed would make the later ones something else."""
    document: dict[str, Any] = {"a": {"b": [1, {"c": "x"}]}}
    places = list(bodies.places(document))
    assert ("a", "b", 1, "c") in places
    assert bodies.put(document, ("a", "b", 1, "c"), None) == {"a": {"b": [1, {"c": None}]}}
    assert bodies.cut(document, ("a", "b", 0)) == {"a": {"b": [{"c": "x"}]}}
    assert document == {"a": {"b": [1, {"c": "x"}]}}
    assert sum(1 for _ in bodies.shortened(document)) == len(places)


def test_work_without_an_end_is_ended_by_its_cpu_time() -> None:
    """A parser that hangs must fail its check, not the run."""
    with pytest.raises(TookTooLong), bounded(0.05):
        while True:
            pass


# the proxy --------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def proxied() -> AsyncIterator[tuple[FaultProxy, list[Request]]]:
    """A proxy before a small server that tells what it got."""
    got: list[Request] = []

    async def answer(request: Request) -> Response:
        got.append(request)
        return json_response({"n": len(got), "next": f"{target}/page/2"})

    server = HttpServer(answer)
    target = f"http://127.0.0.1:{await server.start()}"
    proxy = FaultProxy(target)
    await proxy.start()
    yield proxy, got
    await proxy.stop()
    await server.stop()


async def test_a_request_is_handed_on_and_links_lead_through_the_proxy(proxied: tuple[FaultProxy, list[Request]]) -> None:
    """A plugin that follows a link to the sandbox itself would meet no fault on the second page."""
    proxy, got = proxied
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{proxy.url}/a?b=c", content=b"hello", headers={"X-Own": "1", "Authorization": "Bearer t"})
        again = await client.get(f"{proxy.url}/a")
    assert answer.json() == {"n": 1, "next": f"{proxy.url}/page/2"} and again.json()["n"] == 2
    assert (got[0].method, got[0].path, got[0].query_string, got[0].body, got[0].headers["x-own"]) == ("POST", "/a", "b=c", b"hello", "1")
    assert (proxy.seen[0].path, proxy.seen[0].query, proxy.seen[0].proof) == ("/a", "b=c", "Bearer t")


@pytest.mark.parametrize(
    ("kind", "carried_out", "reached"),
    [("status", False, 0), ("status", True, 1), ("page", False, 0), ("reset", False, 0), ("reset", True, 1), ("half", False, 1)],
)
async def test_a_fault_says_whether_the_request_was_carried_out(
    proxied: tuple[FaultProxy, list[Request]], kind: Kind, carried_out: bool, reached: int
) -> None:
    """What a check counts afterwards rests on this."""
    proxy, got = proxied
    proxy.arm(ProxyFault(kind=kind, status=503, headers={"retry-after": "3"}, method="POST", path="/a", carried_out=carried_out))
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{proxy.url}/a")).status_code == 200, "another method is left alone"
        try:
            answer = await client.post(f"{proxy.url}/a")
        except httpx.TransportError:
            assert kind in ("reset", "half")
        else:
            assert (answer.status_code, answer.headers.get("retry-after")) == ((503, "3") if kind == "status" else (200, None))
        assert len(got) == 1 + reached
        assert (await client.post(f"{proxy.url}/a")).status_code == 200, "it is used up"


async def test_a_hanging_request_is_known_and_its_connection_counted(proxied: tuple[FaultProxy, list[Request]]) -> None:
    """What a check waits for, in place of a guess at how long it takes."""
    proxy, _ = proxied
    proxy.arm(ProxyFault(kind="hang"))
    async with httpx.AsyncClient() as client:
        call = asyncio.ensure_future(client.get(proxy.url))
        await asyncio.wait_for(proxy.busy.wait(), 5)
        assert proxy.connections == 1 and not call.done()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_a_dripping_answer_is_whole_in_the_end(proxied: tuple[FaultProxy, list[Request]]) -> None:
    proxy, _ = proxied
    proxy.arm(ProxyFault(kind="drip"))
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{proxy.url}/a")).json()["n"] == 1


async def test_a_sandbox_that_is_gone_is_a_bad_gateway() -> None:
    proxy = FaultProxy("http://127.0.0.1:9")
    await proxy.start()
    async with httpx.AsyncClient() as client:
        assert (await client.get(proxy.url)).status_code == 502
    await proxy.stop()
