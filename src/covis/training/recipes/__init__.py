"""One module a recipe: what is trained, on what, in which stages."""
