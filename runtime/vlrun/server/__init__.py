"""HTTP service with OpenAI-compatible endpoints. `server.serve` runs it."""
