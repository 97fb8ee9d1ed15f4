"""The dispatch loop, and the backend through which it reaches renderers."""
