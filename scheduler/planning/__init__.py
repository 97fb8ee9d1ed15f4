"""From a spec to a plan: windows, conditions and the task graph. Pure, once a job."""
