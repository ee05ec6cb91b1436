"""What is specific to a model family in an export: graphs, check prompt, reference. One package per family."""
