"""Models behind HTTP and WebSockets: bounded, batched, and with a page for people."""
