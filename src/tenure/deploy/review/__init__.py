"""People's judgements."""
