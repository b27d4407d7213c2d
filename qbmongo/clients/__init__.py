"""The only part that knows a driver: method arguments to operations, and the driver's IO."""
