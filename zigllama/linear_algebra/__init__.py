"""Layer 2: matrix products over plain and quantised numbers."""
