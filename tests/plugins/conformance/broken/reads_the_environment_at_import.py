"""Takes a setting from the environment when it is imported: the same for all tenants, and unchanged until the next start."""

from __future__ import annotations

import os

from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {"lifecycle.no_work_at_import"}

REGION = os.environ.get("EXAMPLE_DESK_REGION", "eu")


class Broken(ExampleDeskPlugin):
    pass
