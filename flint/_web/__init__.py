"""What the skins of all web frameworks share."""
