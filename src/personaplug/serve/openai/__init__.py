"""OpenAI's request and response bodies and errors."""
