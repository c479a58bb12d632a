"""The server: stores over HTTP (and Arrow Flight), answers to questions, and a page to look at both.

``settings`` says how it is to run and ``mounted`` what it serves; ``app`` puts the routes together, ``plan`` adds those
of answers, pictures and the page, and ``run`` gives all to a server. Inside, imports go one way: settings, problems,
extension, spans < mounted < entity, forms, guard < records < batches < listing < health, metrics, openapi < app < plan
< lane < door < process < workers < granian, run. docs/serving.md has the routes.
"""
