"""From images to image features: patches, the encoder queue, the feature cache. Knows no prompt and no engine."""
