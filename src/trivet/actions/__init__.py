"""Acting on predictions: who gets something, who is held out, and its delivery, once."""
