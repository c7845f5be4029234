"""Keys of subjects, such as customers: one each, so that what it has encrypted goes with it, wherever copies are."""
