"""The built-in plugins: one file, one plugin; each imports `monitorkit` as anybody's would."""
