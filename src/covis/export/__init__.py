"""From PyTorch modules to bundles. Needs the extra `covis[train]`."""
