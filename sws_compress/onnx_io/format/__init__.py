"""What a compressed file looks like, for whoever writes, reads, expands or inspects one."""
