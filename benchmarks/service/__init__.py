"""Single rows over HTTP, Trivet beside what people use instead, in one run; see ../README.md."""
