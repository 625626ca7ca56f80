"""What everything stands on: errors, files, artifacts, progress. Imports nothing of ours and no torch."""
