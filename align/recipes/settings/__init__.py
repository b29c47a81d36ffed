"""Settings: what each recipe may say."""
