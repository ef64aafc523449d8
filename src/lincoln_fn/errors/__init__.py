"""How a wrong argument is told: errors, checks of arguments and shapes, suggestions."""
