"""How the built-in video model is trained."""
