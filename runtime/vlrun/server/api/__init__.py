"""What the endpoints say: their requests' fields and their answers' words, and the document about both. No HTTP."""
