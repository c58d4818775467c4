"""Results for people: sizes, tables, JSON, logs, figures and animations."""
