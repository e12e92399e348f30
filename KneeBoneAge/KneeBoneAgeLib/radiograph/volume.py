"""NRRD, MetaImage and NIfTI of one slice, and 16-bit colour pictures, through SimpleITK."""
