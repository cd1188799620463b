"""The coordinator: one active process that owns the queue, the logs, the artifacts and the history."""
