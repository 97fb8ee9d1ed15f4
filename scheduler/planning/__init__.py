"""Turn a spec into a plan: windows, conditions (images and clips), task graph. Pure; called once a job."""
