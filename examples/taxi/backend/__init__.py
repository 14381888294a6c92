"""The taxi company's own application: takes rides, and asks Trivet what they will take and cost."""
