"""What the papers measure, without data sets or models."""
