"""Servers of a program for texts."""
