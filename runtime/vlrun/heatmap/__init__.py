"""Heat maps of the attention of answer tokens to images; needs a backend that records attention."""
