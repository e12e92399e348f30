"""Training of knee bone-age models; imports KneeBoneAgeLib, never the reverse."""
