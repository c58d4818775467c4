"""The command line: arguments in, calls of the API, tables or JSON out. No logic lives here."""
