"""Layer 3: activations, norms, embeddings, rotations."""
