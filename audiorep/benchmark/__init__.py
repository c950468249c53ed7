"""What networks cost and how fast they run, side by side: forms × runtimes × precisions × batch sizes in one schedule."""
