"""The service: the engine behind HTTP, for a kiosk and for every client that speaks OpenAI. `server.serve` runs it."""
