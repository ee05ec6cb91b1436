"""Ids and logits: which token comes next. Knows neither text nor images."""
