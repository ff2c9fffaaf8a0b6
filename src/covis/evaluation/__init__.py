"""How good matches are: data sets with ground truth, error measures, benchmarks."""
