"""What people get: a server of their own, walled off and limited as the settings say."""
