"""`python -m align.data_builders.dialogue`."""

from align.data_builders.dialogue.builder import DialogueBuilder

raise SystemExit(DialogueBuilder.main())
