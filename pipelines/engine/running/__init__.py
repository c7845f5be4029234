"""Running cells: the conversation with a kernel, the limits, and the verdict."""
