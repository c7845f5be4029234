"""Who may read what of the warehouse: a file of policies, checked and compiled to statements; opens no connection."""
