"""Reads the configuration files of Hugging Face folders: what an export and a ready OpenVINO folder have in common."""
