"""What the front gains and costs: one file for each part of `make bench-front`."""
