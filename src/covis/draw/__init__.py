"""Pictures for people: matches, hits, maps, dense features."""
