"""The pure part: decisions only. Imports bson and nothing else of the driver."""
