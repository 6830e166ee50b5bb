"""Looks at everything that spanctl stands on, side by side, and says what mends what."""
