"""The panels of the module KneeBoneAge: Qt only, one section a file. What they show is in the scene."""
