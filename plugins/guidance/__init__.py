"""Guidance: how what a model answers to several questions becomes one velocity."""
