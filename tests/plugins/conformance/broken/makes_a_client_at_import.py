"""Makes its client when it is imported: it is loaded at every door, and used at none."""

from __future__ import annotations

from plugins.conformance.template.plugin import ExampleDeskPlugin
from plugins.http.client import ApiClient

FAILS = {"lifecycle.no_work_at_import", "lifecycle.light", "lifecycle.loads_quickly", "lifecycle.loads_cold"}

CLIENT = ApiClient("https://acme.desk.example")


class Broken(ExampleDeskPlugin):
    pass
