"""How small checkpoints are made. Not part of the installed farm."""
