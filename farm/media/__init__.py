"""Reads clips and images as a player shows them."""
