"""From a delivery to its record, without a socket: what makes it authentic, its ids, its key, and what is never kept."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from plugins.api import (
    Delivery,
    DeliveryIdentity,
    PluginConfigError,
    PluginContext,
    SignatureMismatch,
    TicketingToolPlugin,
    Verified,
)
from schemas.codec import Codec
from schemas.events import DedupScope, WebhookReceived
from schemas.ids import body_dedup_key, delivery_dedup_key, delivery_key
from streams.ingestion.verify import CannotVerify, received, without_secrets

DELIVERY = Delivery(
    tenant="acme",
    tool="desk",
    body=b'{"id": 7}',
    headers={"x-kept": "yes", "x-signature": "hush", "traceparent": "00-0af7-b7ad-01", "content-type": "application/json"},
    content_type="application/json",
    query="a=1",
    received_at=1_700_000_000_123_456,
)


class Tool(TicketingToolPlugin):
    """A tool whose answers the test sets; an exception is raised."""

    tool_type = "tool"
    version = "1"
    kept_headers = ("x-kept",)
    verdict: Any = Verified("test", "k1")
    ticket: Any = "7"
    identity: Any = None

    def validate_webhook(self, delivery: Delivery) -> Verified:
        return _given(self.verdict)

    def ticket_key(self, delivery: Delivery) -> str | None:
        return _given(self.ticket)

    def identify(self, delivery: Delivery) -> DeliveryIdentity | None:
        return _given(self.identity)


Tool.__abstractmethods__ = frozenset()  # the calls to a real tool are none of the door's


def _given(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


def event_of(delivery: Delivery = DELIVERY, **answers: Any) -> tuple[WebhookReceived, bytes]:
    plugin = Tool(PluginContext(tenant="acme", tool="desk", settings={}, secrets=lambda _: (), http=lambda: None))  # type: ignore[arg-type,return-value,abstract] # no tool is called
    for name, value in answers.items():
        setattr(plugin, name, value)
    event_id, record = received(plugin, delivery)
    event = Codec().decode_as(WebhookReceived, record.value)
    assert event.event_id == event_id
    assert record.timestamp_ms == delivery.received_at // 1000
    return event, record.key


def test_the_event_holds_the_exact_bytes_and_only_the_kept_headers() -> None:
    """Credentials and signatures never reach a topic."""
    event, key = event_of()
    assert (event.body, event.received_at, event.query) == (DELIVERY.body, DELIVERY.received_at, "a=1")
    assert event.headers == {"x-kept": "yes", "traceparent": "00-0af7-b7ad-01"}
    assert (event.verified_by, event.tool_type, key) == ("test:k1", "tool", b"acme/desk/7")


def test_a_refused_delivery_is_no_event() -> None:
    """The plugin's own refusal goes to the caller, with its reason."""
    with pytest.raises(SignatureMismatch):
        event_of(verdict=SignatureMismatch("no"))


@pytest.mark.parametrize("fault", [PluginConfigError("no secret"), ZeroDivisionError()])
def test_a_plugin_that_cannot_verify_neither_accepts_nor_refuses(fault: Exception) -> None:
    """A fault of ours must not make a tool give its delivery up."""
    with pytest.raises(CannotVerify):
        event_of(verdict=fault)


@pytest.mark.parametrize("ticket", [None, "", "x" * 257, "half a \ud800 pair", KeyError("a plugin's fault")])
def test_without_a_usable_ticket_id_the_key_is_the_bodys_hash(ticket: Any) -> None:
    """Nothing authentic is thrown away for its ids; equal bodies share a partition."""
    event, key = event_of(ticket=ticket)
    assert event.ticket_id is None
    assert key == delivery_key("acme", "desk", DELIVERY.body).encode()


def test_a_signed_delivery_id_alone_makes_a_redelivery() -> None:
    """The tool may send the same delivery with another body: it says so under its signature."""
    event, _ = event_of(identity=DeliveryIdentity("d-1", signed=True))
    assert (event.dedup_scope, event.delivery_id) == (DedupScope.DELIVERY, "d-1")
    assert event.dedup_key == delivery_dedup_key("acme", "desk", "d-1")


def test_an_unsigned_delivery_id_counts_only_with_its_body() -> None:
    """A stranger who may choose the id must not make a true delivery look like a repeat."""
    event, _ = event_of(identity=DeliveryIdentity("d-1", signed=False))
    assert event.dedup_key == delivery_dedup_key("acme", "desk", "d-1", DELIVERY.body)
    other, _ = event_of(replace(DELIVERY, body=b"{}"), identity=DeliveryIdentity("d-1", signed=False))
    assert other.dedup_key != event.dedup_key


def test_without_a_delivery_id_the_body_tells() -> None:
    """Scope body: route compares with the ticket's latest event only."""
    event, key = event_of()
    assert (event.dedup_scope, event.delivery_id) == (DedupScope.BODY, None)
    assert event.dedup_key == body_dedup_key(key.decode(), DELIVERY.body)


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("", ""),
        ("a=1&b=%20", "a=1&b=%20"),
        ("site=north&token=hush", "site=north&token=%2A%2A%2A"),
        ("X-Api-Key=hush", "X-Api-Key=%2A%2A%2A"),
        ("page=1&signature=hush&SECRET=hush", "page=1&signature=%2A%2A%2A&SECRET=%2A%2A%2A"),
    ],
)
def test_secret_looking_parameters_lose_their_values(query: str, kept: str) -> None:
    """Some tools can put their secret into the address only."""
    assert without_secrets(query) == kept
