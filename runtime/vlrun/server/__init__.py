"""HTTP service with OpenAI-compatible endpoints. `server.serve` runs it.

Starlette and msgspec rather than FastAPI and pydantic: a fifth of the overhead per request, a third of the memory, and
request bodies that are read within a budget and parsed strictly before any type is looked at.
"""
