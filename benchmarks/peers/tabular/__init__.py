"""Servers of a table's program: one file for each, beside what they share."""
