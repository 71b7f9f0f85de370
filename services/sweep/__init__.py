"""Many runs, packed onto a cluster."""
