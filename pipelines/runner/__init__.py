"""Runs one attempt of one step, whatever its kind, and says how it ended. Knows no store and no schedule.

Notebooks run in kernels; functions, files of SQL and flows in a child process each. All of them
leave a log of events that grows while they run and, at the end, a notebook with what they put out:
that of a function has one cell, which says what was called. `running.Runner` is the way in.
Importing this package loads nothing: a child process is to be ready at once.
"""
