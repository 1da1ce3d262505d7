"""`./run faults`: real nodes under load while everything around them breaks, and a verdict."""
