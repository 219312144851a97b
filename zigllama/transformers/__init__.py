"""Layer 4: attention, feed-forward, blocks."""
