"""From images to image features: patches, the encoder queue, the feature cache. Independent of prompts and engine."""
