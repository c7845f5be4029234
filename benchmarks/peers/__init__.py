"""What the workbench's ingestion is compared with: the same records, the same servers, the same table."""
