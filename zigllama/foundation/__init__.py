"""Layer 1: tensors, files and the machine."""
