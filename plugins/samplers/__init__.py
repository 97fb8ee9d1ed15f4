"""Samplers: how a window's latents move from one noise level to the next."""
