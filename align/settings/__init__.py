"""Settings: what a YAML file or a command line may say."""
