"""What happens outside of files and the store: in Kafka's clusters, and in the warehouse.

Each of them is asked in a thread of its own, so that one that does not answer holds up nothing else. What
it answers is judged by the scheduler's own thread, against the position in the row of the schedule; the position moves
on in the transaction of the run. An answer counts only for the row that it was asked for: whatever a position says,
the answer is later.

Nothing of Kafka is imported before a pipeline has a trigger by it.
"""
