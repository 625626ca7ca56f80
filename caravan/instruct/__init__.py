"""Instruct: from clips, pictures and chats to dialogues that a model can learn from and be tested on."""
