"""The command line's commands: each parses, makes one library call, and prints."""
