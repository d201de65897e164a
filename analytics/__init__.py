"""Layer 1, the reading side: events folded into tables, and the views an analyst queries."""
