"""Data sets in other languages: every text of a file once through a translator, with what is done kept on the way.

=============  ==========================================================================
``journal``    translations of one direction, a line for each batch; what a kill leaves is gone on with
``table``      rows of all languages in blocks, as the multilingual data sets are published
``sources``    the texts of a file, and the file again with others in their place
``job``        what is to be translated, and which files are made of which
``work``       the translating itself
=============  ==========================================================================
"""

from featx.translation.job import Job
from featx.translation.work import Done, translate

__all__ = ["Done", "Job", "translate"]
