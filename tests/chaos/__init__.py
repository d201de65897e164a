"""The loss test: real processes killed and paused under load, then every ledger compared with every other."""
