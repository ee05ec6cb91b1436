"""Endpoints: parsing of requests, wording of answers, and the OpenAPI document about both."""
