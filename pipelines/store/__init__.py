"""What is durable of pipelines, in the schema `pipelines` of a PostgreSQL: which runs there are and how they stand.

Values are in `records`, `database` opens the connection, and all else is functions that are
handed a connection inside a transaction, so that a caller can put several of them together
into one. `runs` makes and ends runs, `claims` is what workers call, `pages` is what people see.

Locks are taken in one order, so that no two transactions wait for each other: the row of a run,
then rows of its queue, then the events of the run. Only `claims.taking` begins at the queue; it
passes over rows that are locked, and then waits for pools, a pipeline and a run, in that order.
Every time in the tables is the database's.
"""
