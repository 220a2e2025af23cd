"""The worker's main process: band channels, one choke point, slots, remote control."""
