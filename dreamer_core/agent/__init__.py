"""The agent: one gradient step, its optimisers, what it runs on, and the part that acts."""
