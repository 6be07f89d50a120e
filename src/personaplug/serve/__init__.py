"""The server: any OpenAI client becomes personal by naming the user."""
