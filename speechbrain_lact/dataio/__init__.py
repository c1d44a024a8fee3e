"""Reading and writing data: corpora and manifests."""
