"""Takes for granted that tags are texts: one number among them, and the event is neither read nor set aside."""

from __future__ import annotations

from plugins.api import Delivery, TicketMetadata
from plugins.conformance.template.plugin import ExampleDeskPlugin
from plugins.mapping import json_object

FAILS = {"parsing.wrong_types"}


class Broken(ExampleDeskPlugin):
    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        metadata = super().extract_metadata(delivery)
        tags = json_object(delivery.body)["ticket"].get("tags")
        if isinstance(tags, int | float):
            len(tags)  # type: ignore[arg-type]  # the fault
        return metadata
