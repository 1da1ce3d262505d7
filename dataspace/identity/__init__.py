"""Who is speaking: did:web documents, membership credentials and self-issued tokens."""
