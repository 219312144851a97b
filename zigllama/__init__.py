"""Language models on CPUs, fast and explained."""
