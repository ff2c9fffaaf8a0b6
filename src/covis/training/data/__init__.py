"""Photos, and the training pairs that are rendered from them."""
