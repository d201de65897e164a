"""Layer 3: the `ai-agents` command; a module for each command group."""
