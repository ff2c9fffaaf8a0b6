"""As much effort as a pair needs: the cheap attempt first, others where it is not sure.

`plan` says which attempts there are, `pictures` how they see the two pictures, `attempts` makes one
and weighs it, `shared` looks again at what both show, `escalate` goes from one to the next.
"""
