"""Pure judgements: what follows from failures, how long things are kept, and why a job waits. No clock, no I/O."""
