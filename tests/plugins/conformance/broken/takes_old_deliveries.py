"""Checks the signature and not its age: what was once recorded can be played again for ever."""

from __future__ import annotations

from dataclasses import replace

from plugins.api import Delivery, Verified
from plugins.conformance.template.plugin import ExampleDeskPlugin
from plugins.conformance.template.webhook_validator import VALIDATOR

FAILS = {"verification.too_old"}


class Broken(ExampleDeskPlugin):
    def validate_webhook(self, delivery: Delivery) -> Verified:
        secrets = self.context.secrets(self.context.settings["webhook"]["secret"])
        return replace(VALIDATOR, tolerance=None).validate(delivery, secrets)
