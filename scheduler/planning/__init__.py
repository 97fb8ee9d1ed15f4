"""Turn a spec into a plan: windows, conditions and the task graph. Pure; called once for each job."""
