"""Joins the models of optimum-intel and openvino-genai into the graphs that vlrun runs."""
