"""The node's database: tables, the engine with its transaction rules, and migrations."""
