"""A project laid out as Django's, without needing Django."""
