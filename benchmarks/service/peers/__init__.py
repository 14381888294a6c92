"""What serves beside Trivet: each file is one server, with no code of the others."""
