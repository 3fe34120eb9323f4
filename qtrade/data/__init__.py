"""Where bars come from, where they are kept, and what is checked on the way."""
