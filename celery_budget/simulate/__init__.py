"""A fleet on a virtual clock: the code that decides in a worker, without servers or waiting."""
