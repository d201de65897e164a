"""The conformance kit: what every plugin promises, as named checks run against the plugin, its sandbox and a proxy full of faults."""
