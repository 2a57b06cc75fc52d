"""What leaves the house: the bundle, its manifest, and the certificate of unlearning."""
