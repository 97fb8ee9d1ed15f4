"""Guidance: combines several predictions of a model into one velocity for a denoising step."""
