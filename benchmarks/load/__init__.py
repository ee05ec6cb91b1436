"""The service under load: thirty-two clients for minutes, and what HTTP costs beside the engine alone.

Talks to a `vlrun serve` of its own over sockets, as strangers do.
"""
