"""A new project that runs at once, with a small model of its own or with one that is given."""
