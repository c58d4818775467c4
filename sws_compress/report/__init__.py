"""What a person looks at: size accounting, tables, JSON, figures."""
