"""Untrusted clients: HTTP framing, deadlines and sizes, host names and API keys."""
