"""From a delivery to its record, without sockets: what is looked at before the signature holds is nothing."""

from __future__ import annotations

from typing import Any, cast

import pytest

from plugins.api import Delivery, DeliveryIdentity, SignatureMismatch, TicketingToolPlugin, Verified
from streams.ingestion.verify import received


class Suspicious:
    """A plugin that notes what it was asked; it refuses, or accepts, every delivery."""

    tool_type = "simple"
    kept_headers = ()
    allowed_from = None

    def __init__(self, authentic: bool) -> None:
        self.authentic = authentic
        self.asked: list[str] = []

    def validate_webhook(self, delivery: Delivery) -> Verified:
        self.asked.append("signature")
        if not self.authentic:
            raise SignatureMismatch("not signed by us")
        return Verified("hmac", "k1")

    def ticket_key(self, delivery: Delivery) -> str | None:
        self.asked.append("ticket")
        return "7"

    def identify(self, delivery: Delivery) -> DeliveryIdentity | None:
        self.asked.append("delivery")
        return None


def take(plugin: Suspicious) -> Any:
    return received(cast(TicketingToolPlugin, plugin), Delivery(tenant="acme", tool="desk", body=b'{"id": 7}', headers={}, received_at=1))


def test_nothing_of_a_forged_delivery_is_parsed() -> None:
    """A parser that strangers can reach is theirs to attack."""
    plugin = Suspicious(authentic=False)
    with pytest.raises(SignatureMismatch):
        take(plugin)
    assert plugin.asked == ["signature"]


def test_an_authentic_delivery_is_read_after_its_signature() -> None:
    plugin = Suspicious(authentic=True)
    take(plugin)
    assert plugin.asked == ["signature", "ticket", "delivery"]
