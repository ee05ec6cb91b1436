"""Media input: encoded bytes in, upright RGB pixels out, within limits. Does not know the model."""
