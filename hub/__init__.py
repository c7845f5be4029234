"""Who may enter the workbench, and what they get: JupyterHub, configured and extended."""
