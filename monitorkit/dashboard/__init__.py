"""The dashboard: one page of committed results, the reference and the service's own status."""
