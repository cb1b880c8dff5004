"""What `manage.py quickstart` is made of: its processes, what it sows, and what it demonstrates."""
