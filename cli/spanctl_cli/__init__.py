"""The command line of spanctl: parsing, prompts and output on top of the library ``spanctl``."""
