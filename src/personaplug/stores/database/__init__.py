"""What the SQL store stands on: its tables, its connection and the bytes in its columns."""
