"""What every request passes before it is read: who may come in, how much it may carry, how long it may take."""
