"""Files on web servers, read only."""
