"""How results with a shape of their own are drawn on a terminal."""
