"""A store behind a URL, read as if it were a folder. One noun per module:

==============  ======================================================================================
``framing``     the body of an answer of many records: frames to bytes and back, for server and client
``address``     what a URL says, and where the token comes from
``connection``  the connections that one process keeps, and bodies read where they are wanted
``retry``       which failures deserve another try, and when
``local``       records that were read once, kept on disk up to a limit
``http_store``  all of it: the reader behind ``http://`` and ``https://``
==============  ======================================================================================
"""
