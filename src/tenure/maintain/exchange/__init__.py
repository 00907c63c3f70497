"""Judgements to and from other tools."""
