"""Layer 6: from a model to text."""
