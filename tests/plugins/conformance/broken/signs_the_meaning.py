"""Decodes and encodes the body before it compares: every layout of the same JSON has the same signature."""

from __future__ import annotations

import msgspec

from plugins.api import Delivery, Verified
from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {"verification.reformatted_body"}


class Broken(ExampleDeskPlugin):
    def validate_webhook(self, delivery: Delivery) -> Verified:
        return super().validate_webhook(msgspec.structs.replace(delivery, body=delivery.body.strip()))
