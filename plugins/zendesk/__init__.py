"""Zendesk Support: signed webhooks in, API v2 out."""
