"""Credentials: resolve them, mint and rotate them, and say whose they are. Never shown."""
