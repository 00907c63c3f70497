"""The shadow report: a version beside a person, for every kind of answer."""
