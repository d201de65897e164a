"""Jira: the plugin, its client and its sandbox."""
