"""In the sender: settle Terms, choose the queue, stamp the header."""
