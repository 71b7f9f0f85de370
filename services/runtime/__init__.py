"""A run through the services; the supervisor connects them."""
