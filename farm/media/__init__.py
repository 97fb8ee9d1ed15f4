"""Clips and pictures, read as a player shows them."""
