"""Ollama's API: its requests, answers, streams and descriptions of the model."""
