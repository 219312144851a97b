"""Above the layers: the command line and what it needs; nothing imports it."""
