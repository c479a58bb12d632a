"""Formats of one line per picture. Inside, imports go one way: index and the objects of VinVL < tsv < the formats."""
