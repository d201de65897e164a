"""Example Desk."""
