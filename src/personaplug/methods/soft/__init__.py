"""What methods of soft tokens are made of, beside the plug itself: fitting, and the gate for text."""
