"""One module a network: what its training minimises."""
