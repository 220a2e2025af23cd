"""Twenty calls of the red team, then five of the blue one."""

from service import ask

for number in range(20):
    ask.delay("red", number)
for number in range(5):
    ask.delay("blue", number)
