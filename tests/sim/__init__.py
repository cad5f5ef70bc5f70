"""A whole cluster in memory, hostile and deterministic: one seed is one universe (house, Simulation)."""
