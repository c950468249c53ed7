"""Models behind HTTP and WebSockets: bounded, batched, with a page for people; and that page without a server."""
