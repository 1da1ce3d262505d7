"""The demonstration: a whole space on one machine, from real files to an audited result."""
