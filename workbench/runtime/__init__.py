"""Processes that the workbench keeps running on this machine, whatever they are."""
