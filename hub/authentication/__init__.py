"""Who may enter: identity providers, accounts, and whether somebody may still."""
