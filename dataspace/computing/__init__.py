"""Computations: orders in, sessions that drive privacy roles over HTTP, results out."""
