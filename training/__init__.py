"""Code that trains small checkpoints. Not part of the installed farm."""
