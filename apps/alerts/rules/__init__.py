"""What alerts are made by. Pure: no Django, no clock, no database."""
