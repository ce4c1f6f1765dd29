"""Servers of the digits' program."""
