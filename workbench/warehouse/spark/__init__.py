"""The warehouse as a Spark data source: `spark.read.format("workbench")`, `df.write`, `df.writeStream`."""
