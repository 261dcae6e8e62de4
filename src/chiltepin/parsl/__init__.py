"""Everything that touches Parsl, behind the modules that users import."""
