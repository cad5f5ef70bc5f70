"""Stories on the real cluster: what the contract promises, played and asserted field by field."""
