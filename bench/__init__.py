"""Measurements: `make bench`. Medians of alternated runs and their ratios; results in bench/results/."""
