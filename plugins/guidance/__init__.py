"""Guidance: combines several answers of a model into one velocity for a denoising step."""
