"""Pure decisions, without clock or I/O: what follows from a failure, how long artifacts are kept, why a job waits."""
