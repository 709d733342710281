"""What Linux offers to a data plane: batched UDP, scatter/gather, addresses as the kernel writes them."""
