"""Downloads models from a hub that speaks Hugging Face's protocol. Only ``client`` imports huggingface_hub."""
