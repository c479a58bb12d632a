"""``clip-linear-vizwiz``: layers on the embeddings of a picture and of a question learn answer and answerability."""
