"""Tasks: named prompts with a schema, run over tiles and votes; drawing of the result."""
