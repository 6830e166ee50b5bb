"""The commands, one module a noun; ``spanctl_cli.main`` assembles them."""
