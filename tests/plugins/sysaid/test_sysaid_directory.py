"""People in a directory: the filter by itself, and look-ups against real servers: OpenLDAP, and UnboundID's where there is no slapd."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from plugins.api import ConnectFailed, CredentialsRefused, FatalApiError, PluginConfigError, PluginContext, RetriableApiError
from plugins.http.client import ApiClient
from plugins.sandbox.server import SandboxProcess
from plugins.sysaid.directory import MOST, Directory
from plugins.sysaid.plugin import SysAidPlugin
from streams.broker.errors import BrokerError
from tests.plugins.sysaid.java_directory import JavaDirectory
from tests.plugins.sysaid.slapd import BASE, BIND_PASSWORD, BIND_USER, Slapd, schema_folder, slapd_path

AD = {"people": "(objectClass=adUser)"}
"""Active Directory alone knows objectCategory=person."""


def a_directory(url: str = "ldaps://dc.corp.example", **settings: Any) -> Directory:
    given: Mapping[str, Any] = {"url": url, "base": BASE, "bind_user": BIND_USER, "bind_password": BIND_PASSWORD, **settings}
    return Directory(given, lambda reference: reference)


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    if slapd_path() is None or schema_folder() is None:
        pytest.skip("no slapd on this machine; Debian's package slapd brings it")
    with Slapd(tmp_path_factory.mktemp("slapd")) as server:
        yield server


@pytest.fixture(scope="module", params=["slapd", "java"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd | JavaDirectory]:
    if request.param == "slapd":
        yield request.getfixturevalue("slapd")
        return
    try:
        with JavaDirectory(tmp_path_factory.mktemp("directory")) as running:
            yield running
    except (BrokerError, ImportError) as exc:
        pytest.skip(f"no in-memory directory: {exc}")


# --- the filter ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("*", r"\2a"), ("(", r"\28"), (")", r"\29"), ("\\", r"\5c"), ("\0", r"\00"), ("x)(uid=*", r"x\29\28uid=\2a"), ("é", "é")],
)
def test_what_people_type_changes_no_filter(text: str, escaped: str) -> None:
    """A name comes from a ticket, and so from anybody: `*)(uid=*` must find nobody, not everybody."""
    assert f"(mail={escaped}*)" in a_directory().filter_for(text)
    assert f"(mail={escaped})" in a_directory().filter_for(text, exact=True)


@example_settings(deadline=None)  # the first look imports ldap3
@given(st.text(min_size=1, max_size=40))
def test_no_text_opens_or_closes_a_part_of_the_filter(text: str) -> None:
    """Whatever is typed, the filter keeps its shape: as many parentheses and stars as for a plain word."""
    plain, typed = a_directory().filter_for("word"), a_directory().filter_for(text)
    assert [typed.count(c) for c in "()*"] == [plain.count(c) for c in "()*"]


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "dc.corp.example"},
        {"url": "http://dc.corp.example"},
        {"url": "ldap://dc.corp.example", "start_tls": False},
        {"base": ""},
        {"bind_password": ""},
        {"kind": "novell"},
        {"timeout": "soon"},
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, Any]) -> None:
    """Above all a bind password is never sent in the clear because somebody wrote ldap:// for ldaps://."""
    with pytest.raises(PluginConfigError, match="directory"):
        a_directory(**settings)


async def test_half_a_name_is_asked_for_and_a_letter_is_not() -> None:
    """One letter would be half the directory; so no connection is made at all."""
    directory = a_directory("ldaps://127.0.0.1:9", timeout=0.2)
    assert await directory.find("a") == [] and await directory.find("  ") == [] and await directory.find("CORP\\") == []
    assert await directory.one("") is None
    with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1:9"):
        await directory.find("ada")


# --- a real server ---------------------------------------------------------------------------------------------------------


async def test_people_are_found_by_account_address_and_name(server: Slapd | JavaDirectory) -> None:
    """Tickets name people in each of these ways; SysAid puts the domain before the account."""
    directory = a_directory(server.secure_url, ca_file=server.ca_file, **AD)
    for text in ("cora", "CORP\\cora", "cora@customer.example", "Cora Cust", "customer", "cora@corp.example"):
        (person,) = await directory.find(text)
        assert (person.name, person.email) == ("Cora Customer", "cora@customer.example")
        assert person.attributes["department"] == "Yard" and person.attributes["title"] == "Crane driver"
    (person,) = await directory.find("José")
    assert person.name == "José Álvarez"


async def test_a_person_has_a_stable_key_and_the_state_of_the_account(server: Slapd | JavaDirectory) -> None:
    """Names and addresses change with a wedding; objectGUID does not, and is written as Microsoft writes it."""
    (ada,) = await a_directory(server.secure_url, ca_file=server.ca_file, **AD).find("ada")
    assert ada.person_id == "2e616461-2e2e-2e2e-2e2e-2e2e2e2e2e2e"
    assert ada.attributes["disabled"] == "true" and ada.attributes["phone"] == "+49 30 1"


async def test_an_openldap_directory_is_read_by_its_own_names(server: Slapd | JavaDirectory) -> None:
    """Not every customer has Active Directory."""
    (person,) = await a_directory(server.secure_url, ca_file=server.ca_file, kind="ldap").find("cora")
    assert (person.attributes["account"], person.attributes["department"]) == ("cora", "Yard")
    assert person.person_id.count("-") == 4


async def test_an_injected_filter_finds_nobody(server: Slapd | JavaDirectory) -> None:
    """The same as above, decided by a server."""
    directory = a_directory(server.secure_url, ca_file=server.ca_file, **AD)
    for text in ("**", "*)(uid=*", "cora)(|(uid=*", "\\2a\\2a", "zz\0zz"):
        assert await directory.find(text) == []
    (star,) = await directory.find("Stella (Star")
    assert star.name == "Stella (Star) Ray"


async def test_an_exact_look_up_answers_one_person_or_none(server: Slapd | JavaDirectory) -> None:
    """A ticket is enriched with the right person's address, or with nobody's."""
    directory = a_directory(server.secure_url, ca_file=server.ca_file, **AD)
    found = await directory.one("CORP\\cora")
    assert found is not None and found.email == "cora@customer.example"
    assert await directory.one("cor") is None and await directory.one("many") is None and await directory.one("*") is None


async def test_of_many_at_most_fifty_are_answered(server: Slapd | JavaDirectory) -> None:
    """The server would give up at 500, and nobody reads more; pages keep both from mattering."""
    assert len(await a_directory(server.secure_url, ca_file=server.ca_file, **AD).find("many")) == MOST


async def test_tls_can_begin_on_the_plain_port(server: Slapd | JavaDirectory) -> None:
    """Where 636 is closed, StartTLS on 389 comes before the password does."""
    assert len(await a_directory(server.url, ca_file=server.ca_file, **AD).find("cora")) == 1


async def test_a_certificate_nobody_signed_is_refused(server: Slapd | JavaDirectory) -> None:
    """Else whoever stands between reads the bind password."""
    for url in (server.secure_url, server.url):
        with pytest.raises(ConnectFailed):
            await a_directory(url, **AD).find("cora")


async def test_plain_is_possible_and_must_be_asked_for(server: Slapd | JavaDirectory) -> None:
    """For a directory on the same machine."""
    assert len(await a_directory(server.url, plain=True, **AD).find("cora")) == 1


async def test_what_the_server_refuses_is_said_with_what_to_do(server: Slapd | JavaDirectory) -> None:
    """A wrong password, a wrong base and a filter that is none are three people's work."""
    for settings, kind, text in (
        ({"bind_password": "wrong"}, CredentialsRefused, "password"),
        ({"bind_user": f"cn=nobody,{BASE}"}, CredentialsRefused, "bind account"),
        ({"base": "dc=other,dc=example"}, FatalApiError, "directory.base"),
        ({"people": "(objectClass="}, PluginConfigError, "directory.people"),
    ):
        with pytest.raises(kind, match=text) as caught:
            await a_directory(server.secure_url, ca_file=server.ca_file, **{**AD, **settings}).find("cora")
        assert BIND_PASSWORD not in str(caught.value) and "wrong " not in str(caught.value).replace("is wrong", "")


async def test_an_account_that_may_read_nobody_finds_nobody(slapd: Slapd) -> None:
    """OpenLDAP hides what may not be read."""
    settings = {"bind_user": f"cn=blind,{BASE}", "bind_password": "sees nobody"}
    assert await a_directory(slapd.secure_url, ca_file=slapd.ca_file, **AD, **settings).find("cora") == []


async def test_the_loop_goes_on_while_a_directory_is_silent() -> None:
    """ldap3 blocks: in the loop, one silent server would stop every tenant's tickets."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        directory = a_directory(f"ldap://127.0.0.1:{silent.getsockname()[1]}", plain=True, timeout=0.3)
        began, turns = time.perf_counter(), 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        other = asyncio.create_task(turn())
        with pytest.raises(RetriableApiError):
            await directory.find("cora")
        other.cancel()
        assert turns > 5 and time.perf_counter() - began < 10


async def test_look_ups_at_once_take_few_threads_and_leave_none_connected(server: Slapd | JavaDirectory) -> None:
    """A burst of tickets must not take every thread of the worker."""
    directory = a_directory(server.secure_url, ca_file=server.ca_file, **AD)
    before = threading.active_count()
    found = await asyncio.gather(*(directory.find("cora") for _ in range(12)))
    assert [len(people) for people in found] == [1] * 12
    assert threading.active_count() - before < 8  # a thread that has just ended its look-up may still be counted


async def test_a_tickets_requester_is_looked_up_when_asked_for(server: Slapd | JavaDirectory) -> None:
    """SysAid names its requester by a number of its own; the address and the department are the directory's."""
    settings = {"url": server.secure_url, "ca_file": server.ca_file, "base": BASE, "bind_user": BIND_USER, "bind_password": BIND_PASSWORD}
    client = ApiClient()
    with SandboxProcess("sysaid") as sandbox:

        def bound(**directory: Any) -> SysAidPlugin:
            known = {"base_url": sandbox.base_url, "auth": sandbox.credentials["auth"], "directory": {**settings, **AD, **directory}}
            context = PluginContext(tenant="acme", tool="desk", settings=known, secrets=lambda r: [r.encode()], http=lambda: client)
            return SysAidPlugin(context)

        ticket_id = sandbox.person_creates(subject="Gate PC is slow")
        plain = await bound().get_ticket(ticket_id)
        assert "requester_email" not in plain.extra
        rich = await bound(enrich=True).get_ticket(ticket_id)
        assert (rich.extra["requester_email"], rich.extra["requester_department"]) == ("cora@customer.example", "Yard")
        context = await bound().device_context(plain)
        assert context is not None and context.items[0].attributes["requester_department"] == "Yard"
        assert [person.name for person in await bound().find_people("ada")] == ["Ada Agent"]
    await client.aclose()
