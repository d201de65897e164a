"""Freshdesk: automation rules' deliveries in, REST v2 out."""
