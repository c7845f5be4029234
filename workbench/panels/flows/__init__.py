"""The panel of ingestion: flows, how far they are behind, and records that did not fit."""
