"""What one run of the recipe is: which folders it holds, which options it may have."""
