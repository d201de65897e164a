"""ServiceDesk Plus: the plugin, its client and its sandbox."""
