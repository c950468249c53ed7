"""The model behind an address: a server, its page, and the same page as a folder that needs no server."""
