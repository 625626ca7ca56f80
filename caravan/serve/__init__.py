"""Serving: a supervised engine behind a validating front end, and the web and terminal chats."""
