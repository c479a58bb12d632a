"""Foreign feature files: one module per format, each with a reader, a writer, an import and an export."""
