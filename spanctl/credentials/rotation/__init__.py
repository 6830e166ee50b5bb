"""Rotation of a secret's credential: a pure machine that decides, and a driver that acts."""
