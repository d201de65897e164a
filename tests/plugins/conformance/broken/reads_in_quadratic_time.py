"""Cuts one letter off at a time: fine for a sentence, minutes for a log file somebody pasted."""

from __future__ import annotations

from plugins.api import Delivery, TicketMetadata
from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {"parsing.large_body", "parsing.hostile_text"}


class Broken(ExampleDeskPlugin):
    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        metadata = super().extract_metadata(delivery)
        for text in (delivery.body,):
            while text:
                text = text[1:]
        return metadata
