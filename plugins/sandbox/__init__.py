"""Sandboxes: small stateful stand-ins for the tools, speaking their protocols over real HTTP, with faults on demand and a ledger."""
