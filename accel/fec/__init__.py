"""FEC engines, one file each."""
