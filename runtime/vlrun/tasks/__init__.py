"""Tasks: named prompts with an answer schema, asked over tiles and votes, and drawn on the image."""
