"""Secrets: what the tenants' `${secret:name}` references stand for, from the environment, a mounted directory or an encrypted file."""
