"""`qbmongo demo`: an airport service on real flights, played by the plain driver and by qbmongo."""
