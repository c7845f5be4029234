"""Claims steps and runs them, several at once, as long as the store says that they are its own.

A step's outcome counts by one row, which is written only while its claim holds. So a worker that
was stopped, cut off or taken for dead can do what it likes: nothing of it becomes visible.
"""
