"""Layer 0, the contracts: canonical ticket words, the events on the topics and their Avro form. Imports nothing else of ours."""
