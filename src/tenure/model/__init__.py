"""What answers: stages, bundles, the registry."""
