"""From images to patches to image features."""
