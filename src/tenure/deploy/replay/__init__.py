"""What a rollout with another plan would have done, from the log."""
