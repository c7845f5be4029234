"""What the service reads and does: in the store, the project's files and the logs of attempts. Nothing here knows HTTP."""
