"""Verifies with the newest key alone: while a secret is rotated, every delivery signed with the old one is lost."""

from __future__ import annotations

from plugins.api import Delivery, Verified
from plugins.conformance.template.plugin import ExampleDeskPlugin
from plugins.conformance.template.webhook_validator import VALIDATOR

FAILS = {"verification.two_live_keys", "verification.key_is_named"}


class Broken(ExampleDeskPlugin):
    def validate_webhook(self, delivery: Delivery) -> Verified:
        return VALIDATOR.validate(delivery, self.context.secrets(self.context.settings["webhook"]["secret"])[:1])
