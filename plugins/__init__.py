"""Layer 1, the tools: what an ITSM tool sends, answers and means, each in a folder of its own."""
