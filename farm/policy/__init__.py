"""Pure decisions: what follows from a failure, how long artifacts are kept, why a job waits. No clock, no I/O."""
