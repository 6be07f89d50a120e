"""What runs behind the routes: users, models, answers."""
