"""Recovery: flow runs whose process died are settled, ended, and run again where asked for."""
