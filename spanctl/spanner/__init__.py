"""Spanner: the only package that imports Google's client."""
