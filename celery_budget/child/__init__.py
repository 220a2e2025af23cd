"""Where the body of a task runs: what the task can see of its own Terms."""
