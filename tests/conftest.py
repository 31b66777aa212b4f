"""Settings of the whole suite."""

from hypothesis import settings

# The same examples in every run; an example's time says more about the machine than the code.
settings.register_profile(
    'frlr_mm', derandomize=True, deadline=None, max_examples=30, database=None
)
# Other examples each time: pytest --hypothesis-profile=nightly
settings.register_profile(
    'nightly', deadline=None, max_examples=2000, database=None, print_blob=True
)
settings.load_profile('frlr_mm')
