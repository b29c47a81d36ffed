"""Loss: every loss as a pure function, and one registry of what each option means."""
