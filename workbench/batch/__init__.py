"""Batch jobs by partition: each day's rows replaced in one transaction together with a bookmark."""

from workbench.batch.jobs import BatchJob, Only, Report, run
from workbench.batch.partitions import Partition, make_partitions

__all__ = ["BatchJob", "Only", "Partition", "Report", "make_partitions", "run"]
