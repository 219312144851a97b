"""Layer 5: architectures, tokenizers, loading."""
