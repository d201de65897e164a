"""The demo: everything up, sandboxes for the tools, varied traffic with its faults, and a balance that must be exact."""
