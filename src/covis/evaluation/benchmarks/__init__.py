"""One module a benchmark: reads its data, measures, gives rows."""
