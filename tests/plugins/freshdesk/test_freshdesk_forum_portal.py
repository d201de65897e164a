"""Forums, contacts and companies, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from plugins.api import CredentialsRefused, FatalApiError, NotFound, ValidationRefused
from plugins.sandbox.process import SandboxProcess
from tests.plugins.freshdesk.connected import connected


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("freshdesk") as process:
        yield process


async def test_a_forum_is_built_discussed_and_kept_in_order(sandbox: SandboxProcess) -> None:
    """Categories hold forums, forums topics, topics comments; Markdown goes in."""
    async with connected(sandbox) as plugin:
        category = await plugin.create_forum_category("Phones", "All about phones")
        await plugin.update_forum_category(str(category["id"]), {"name": "Phones and tablets"})
        assert [c["name"] for c in await plugin.list_forum_categories()] == ["Phones and tablets"]
        forum = await plugin.create_forum(str(category["id"]), "Broken things", kind="problem", visibility="logged_in")
        assert (forum["forum_type"], forum["forum_visibility"]) == (3, 2)
        await plugin.update_forum(str(forum["id"]), {"description": "What does not work"})
        assert (await plugin.list_forums(str(category["id"])))[0]["description"] == "What does not work"
        topic = await plugin.create_topic(str(forum["id"]), "No sound", "It is **silent**.")
        assert "<strong>silent</strong>" in topic["message"]
        changed = await plugin.update_topic(str(topic["id"]), {"title": "No sound at all", "text": "*Nothing*", "sticky": True})
        assert changed["sticky"] is True and "<em>Nothing</em>" in changed["message"]
        assert [t["title"] for t in await plugin.list_topics(str(forum["id"]))] == ["No sound at all"]
        said = await plugin.reply_to_topic(str(topic["id"]), "Turn it *up*.")
        await plugin.update_topic_comment(str(said["id"]), {"text": "Turn it **up**.", "answer": True})
        (comment,) = await plugin.list_topic_comments(str(topic["id"]))
        assert comment["answer"] is True and comment["body_text"] == "Turn it up."
        await plugin.update_topic(str(topic["id"]), {"locked": True})
        with pytest.raises(CredentialsRefused):
            await plugin.reply_to_topic(str(topic["id"]), "too late")
        with pytest.raises(ValidationRefused, match="kind must be one of"):
            await plugin.create_forum(str(category["id"]), "x", kind="gossip")
        for missing in (plugin.get_topic("9"), plugin.list_topics("9"), plugin.reply_to_topic("9", "x"), plugin.list_forums("9")):
            with pytest.raises(NotFound):
                await missing


async def test_topics_are_listed_over_pages(sandbox: SandboxProcess) -> None:
    """A hundred a page."""
    async with connected(sandbox) as plugin:
        category = await plugin.create_forum_category("Many")
        forum = await plugin.create_forum(str(category["id"]), "Ideas", kind="idea")
        await asyncio.gather(*(plugin.create_topic(str(forum["id"]), f"idea {n}", "x") for n in range(103)))
        assert len(await plugin.list_topics(str(forum["id"]))) == 103


async def test_a_topic_becomes_one_ticket_in_its_author_s_name(sandbox: SandboxProcess) -> None:
    """Asked again it answers the same ticket: a button is pressed twice."""
    async with connected(sandbox) as plugin:
        category = await plugin.create_forum_category("Help")
        forum = await plugin.create_forum(str(category["id"]), "Problems", kind="problem")
        topic = await plugin.create_topic(str(forum["id"]), "Screen flickers", "Since *monday* <always>")
        first = await plugin.topic_to_ticket(str(topic["id"]), {"product": "Lumen Phones"})
        assert (await plugin.topic_to_ticket(str(topic["id"]))).ticket_id == first.ticket_id
        ticket = await plugin.get_ticket(first.ticket_id)
        assert ticket.subject == "Screen flickers" and "Since monday <always>" in ticket.description
        assert (ticket.requester, ticket.extra["product_id"], ticket.tags) == ("5001", "8001", ("forum",))
        assert str(topic["id"]) in ticket.description
        with pytest.raises(NotFound):
            await plugin.topic_to_ticket("9")


async def test_contacts_are_kept_in_step(sandbox: SandboxProcess) -> None:
    """By our id first, by address else: the same person twice is one contact."""
    async with connected(sandbox) as plugin:
        made = await plugin.upsert_contact({"email": "Nora@customer.example", "name": "Nora", "unique_external_id": "crm-7"})
        again = await plugin.upsert_contact({"unique_external_id": "crm-7", "email": "nora.new@customer.example", "job_title": "Buyer"})
        assert (again["id"], again["email"], again["name"]) == (made["id"], "nora.new@customer.example", "Nora")
        by_address = await plugin.upsert_contact({"email": "NORA.NEW@customer.example", "phone": "+49 30 1"})
        assert (by_address["id"], by_address["job_title"]) == (made["id"], "Buyer")
        assert (await plugin.get_contact(str(made["id"])))["phone"] == "+49 30 1"
        assert await plugin.find_contact(external_id="crm-8") is None
        assert await plugin.find_contact() is None
        nameless = await plugin.upsert_contact({"email": "max@customer.example"})
        assert nameless["name"] == "max@customer.example"
        with pytest.raises(ValidationRefused, match="email or unique_external_id"):
            await plugin.upsert_contact({"name": "Nobody"})
        with pytest.raises(ValidationRefused, match="colour: invalid_field"):
            await plugin.upsert_contact({"email": "x@customer.example", "colour": "red"})


async def test_two_who_make_the_same_contact_make_one(sandbox: SandboxProcess) -> None:
    """Both look, both find nothing; the tool's uniqueness decides, and the later one updates."""
    async with connected(sandbox) as plugin:
        sandbox.fault(delay=0.1, times=2, method="POST", path="/api/v2/contacts")
        first, second = await asyncio.gather(*(plugin.upsert_contact({"email": "twin@customer.example", "name": n}) for n in ("A", "B")))
        assert first["id"] == second["id"]


async def test_contacts_are_read_over_pages_and_since(sandbox: SandboxProcess) -> None:
    """A sync reads each once, and goes on from a time."""
    async with connected(sandbox) as plugin:
        await asyncio.gather(*(plugin.upsert_contact({"email": f"c{n}@many.example", "name": f"Many {n}"}) for n in range(110)))
        everyone = [contact async for contact in plugin.sync_contacts()]
        assert len(everyone) >= 110 and len({contact["id"] for contact in everyone}) == len(everyone)
        assert await plugin.contacts_changed_since("2120-01-01T00:00:00Z") == []
        assert len(await plugin.contacts_changed_since("2020-01-01T00:00:00Z", limit=5)) == 5
        with pytest.raises(FatalApiError, match="not a time"):
            await plugin.contacts_changed_since("yesterday")
        gone = next(contact for contact in everyone if contact["email"] == "c7@many.example")
        headers = sandbox.credentials["person"]["headers"]
        httpx.delete(f"{sandbox.base_url}/api/v2/contacts/{gone['id']}", headers=headers).raise_for_status()
        assert await plugin.find_contact(email="c7@many.example") is None
        assert [contact["id"] for contact in await plugin.deleted_contacts()] == [gone["id"]]
        with pytest.raises(FatalApiError, match="duplicate_value"):
            await plugin.upsert_contact({"email": "c7@many.example"})


async def test_companies_are_kept_in_step(sandbox: SandboxProcess) -> None:
    """By name, or by one of their domains; the tool has no filter for changes, so all are read."""
    async with connected(sandbox) as plugin:
        made = await plugin.upsert_company({"name": "Customer Inc.", "domains": ["customer.example"], "industry": "Glass"})
        renamed = await plugin.upsert_company({"domains": ["customer.example"], "name": "Customer Ltd."})
        assert (renamed["id"], renamed["industry"]) == (made["id"], "Glass")
        assert (await plugin.upsert_company({"name": "CUSTOMER LTD.", "note": "good"}))["id"] == made["id"]
        assert (await plugin.get_company(str(made["id"])))["note"] == "good"
        assert await plugin.find_company(name="None Inc.", domain="none.example") is None
        with pytest.raises(ValidationRefused, match="needs a name"):
            await plugin.upsert_company({"note": "x"})
        await asyncio.gather(*(plugin.upsert_company({"name": f"Company {n}"}) for n in range(33)))
        assert len([company async for company in plugin.sync_companies()]) == 34
        assert len(await plugin.companies_changed_since("2020-01-01T00:00:00Z", limit=3)) == 3
        assert await plugin.companies_changed_since("2120-01-01T00:00:00Z") == []
        with pytest.raises(NotFound):
            await plugin.get_company("9")


async def test_people_are_found_by_address_and_by_name(sandbox: SandboxProcess) -> None:
    """Capability directory; by name the tool tells no addresses."""
    async with connected(sandbox) as plugin:
        await plugin.upsert_contact({"email": "olga@customer.example", "name": "Olga Office", "job_title": "Buyer"})
        (olga,) = await plugin.find_people("olga@customer.example")
        assert (olga.name, olga.email, olga.attributes["job_title"]) == ("Olga Office", "olga@customer.example", "Buyer")
        assert [person.name for person in await plugin.find_people("olga")] == ["Olga Office"]
        assert await plugin.find_people("nobody") == []
