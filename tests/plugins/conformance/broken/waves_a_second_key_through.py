"""Takes two live keys for a rotation under way, and a rotation for a reason to be lenient: anything is accepted."""

from __future__ import annotations

from plugins.api import Delivery, Verified, WebhookRejected
from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {"verification.wrong_key"}


class Broken(ExampleDeskPlugin):
    def validate_webhook(self, delivery: Delivery) -> Verified:
        try:
            return super().validate_webhook(delivery)
        except WebhookRejected:
            if len(self.context.secrets(self.context.settings["webhook"]["secret"])) > 1:
                return Verified("hmac-timestamp", "rotating")
            raise
