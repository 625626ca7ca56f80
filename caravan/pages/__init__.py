"""What the reports of several stages share: the look of a page, and plots that take their colours from it."""
