"""Floor 3: the stories, one per noun, each readable on one screen."""
