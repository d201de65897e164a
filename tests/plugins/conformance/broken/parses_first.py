"""Reads the body before it is proven: whoever can reach the door can feed the parser, and learns from its answers."""

from __future__ import annotations

from plugins.api import Delivery, Verified
from plugins.conformance.template.plugin import ExampleDeskPlugin
from plugins.mapping import json_object

FAILS = {"verification.before_parsing", "verification.empty_body", "verification.tampered_body"}


class Broken(ExampleDeskPlugin):
    def validate_webhook(self, delivery: Delivery) -> Verified:
        json_object(delivery.body)
        return super().validate_webhook(delivery)
