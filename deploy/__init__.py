"""An artifact taken to engines that serve it on many machines."""
