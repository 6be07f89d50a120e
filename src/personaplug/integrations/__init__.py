"""Where other people's programs meet personaplug."""
