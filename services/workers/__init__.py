"""The services: plain classes with memory and no handle to each other. None imports Ray."""
