"""The report of a run as text, JSON, JUnit XML and one page, and its changes since another one."""
