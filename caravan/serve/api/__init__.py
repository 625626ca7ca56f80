"""The routes of the front end, a module for each: OpenAI's, and Linly's."""
