"""The server: stores over HTTP (and Arrow Flight), answers to questions, and a page to look at both.

``settings`` says how it is to run and ``mounted`` what it serves; ``app`` puts the routes together and ``run`` gives
them to a server. Inside, imports go one way: settings, problems, extension < spans < mounted < forms, listing <
records, batches < guard, health, metrics, openapi < app < run. docs/serving.md has the routes.
"""
