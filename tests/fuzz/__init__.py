"""Fuzzing of everything that reads foreign bytes: `./run fuzz`."""
