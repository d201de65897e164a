"""Compares the signature as text: compare_digest refuses text outside ASCII with a TypeError, and the door answers 500."""

from __future__ import annotations

import hmac

from plugins.api import Delivery, SignatureMismatch, Verified
from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {"verification.hostile_header"}


class Broken(ExampleDeskPlugin):
    def validate_webhook(self, delivery: Delivery) -> Verified:
        given = delivery.headers.get("x-example-desk-signature") or ""
        for secret in self.context.secrets(self.context.settings["webhook"]["secret"]):
            message = delivery.headers.get("x-example-desk-timestamp", "").encode("utf-8", "replace") + b"." + delivery.body
            if secret and hmac.compare_digest(given, hmac.digest(secret, message, "sha256").hex()):
                return super().validate_webhook(delivery)  # the age and the key's name
        raise SignatureMismatch("header X-Example-Desk-Signature does not sign this delivery")
