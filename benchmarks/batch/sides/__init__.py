"""What is run side by side: each file is one whole process, with no code of the others."""
