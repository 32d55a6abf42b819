"""Floor 2: the hands. The only code that imports fabric, git, sockets and subprocess."""
