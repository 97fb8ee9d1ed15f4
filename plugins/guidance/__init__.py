"""Guidance: combines a model's answers to several prompts into one velocity for a denoising step."""
