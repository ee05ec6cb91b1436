"""Endpoints: parsing of requests, formatting of answers, and the OpenAPI document about both."""
