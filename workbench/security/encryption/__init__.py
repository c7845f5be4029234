"""Values, files and logs, encrypted with the keys of a keyset."""
