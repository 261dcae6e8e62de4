"""Requests at a service: grouped into tasks, submitted, polled and completed."""
