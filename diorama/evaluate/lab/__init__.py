"""The laboratory: every solver, grid and guidance against laws of which the answer is known."""
