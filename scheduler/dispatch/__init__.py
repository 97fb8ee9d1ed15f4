"""The loop that gives tasks to devices, and the code through which this loop reaches renderers."""
