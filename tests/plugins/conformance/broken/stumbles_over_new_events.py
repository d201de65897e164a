"""Looks an event up without asking whether it is there: the tool's next release stops the stream."""

from __future__ import annotations

from plugins.api import Delivery, TicketMetadata
from plugins.conformance.template.payload import CHANGE_WORDS
from plugins.conformance.template.plugin import ExampleDeskPlugin
from plugins.mapping import json_object

FAILS = {"parsing.unknown_event"}


class Broken(ExampleDeskPlugin):
    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        event = json_object(delivery.body).get("event")
        if isinstance(event, str) and ":" in event:  # this tool's events are written with a full stop
            raise KeyError(CHANGE_WORDS[event])
        return super().extract_metadata(delivery)
