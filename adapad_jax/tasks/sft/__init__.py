"""Instruction tuning: rows of prompts and chats, templates, masks, loss, packing."""
